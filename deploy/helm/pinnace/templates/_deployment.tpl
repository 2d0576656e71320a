{{/* A Deployment of one role. Takes root, component, values (of that component), account, args, login, link, drain. */}}
{{- define "pinnace.deployment" -}}
{{- $root := .root }}{{ $own := .values }}
{{- $image := merge (dict "tag" ($root.Values.image.tag | default $root.Chart.AppVersion)) $root.Values.image }}
{{- if and $root.Values.image.digest (not $root.Values.image.tag) }}{{ $_ := set $image "tag" "" }}{{ end }}
{{- $queues := and .queue (or $root.Values.redis.enabled $root.Values.queuePassword) }}
{{- $pushes := and .login $root.Values.registryCredentials }}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .component }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "pinnace.labels" (dict "root" $root "component" .component) | nindent 4 }}
spec:
  {{- if not .scaled }}
  replicas: {{ .replicas }}
  {{- end }}
  strategy: {{ .strategy }}
  selector:
    matchLabels:
      {{- include "pinnace.selector" .component | nindent 6 }}
  template:
    metadata:
      labels:
        {{- include "pinnace.labels" (dict "root" $root "component" .component) | nindent 8 }}
        app.kubernetes.io/part-of: pinnace
        {{- with $own.podLabels }}{{ toYaml . | nindent 8 }}{{ end }}
      {{- $annotations := $root.Values.metrics.annotations | ternary (dict "prometheus.io/scrape" "true" "prometheus.io/port" "8082") dict }}
      {{- with merge (dict) $own.podAnnotations $annotations }}
      annotations: {{- toYaml . | nindent 8 }}
      {{- end }}
    spec:
      serviceAccountName: {{ .account }}
      automountServiceAccountToken: true
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ .grace }}
      securityContext:
        {{- include "pinnace.podSecurity" . | nindent 8 }}
      {{- with $root.Values.imagePullSecrets }}
      imagePullSecrets:
        {{- range . }}
        - name: {{ . }}
        {{- end }}
      {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ include "pinnace.image" $image }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          command: [faas]
          args:
            - serve
            - --orchestration=kubernetes
            {{- range .args }}
            - {{ . }}
            {{- end }}
            - --data-dir=/data
            - --no-save-login
            - --metrics-host=0.0.0.0
            - --log-format=json
          env:
            {{- if eq .component "edge" }}
            - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}  # when the pod is gone, nobody waits for this edge
            {{- end }}
            {{- if .login }}
            - {name: secret_mount_path, value: /login}
            {{- end }}
            {{- if $pushes }}
            - {name: DOCKER_CONFIG, value: /registry}
            {{- end }}
            {{- if and .queue $root.Values.redis.enabled }}
            - {name: PINNACE_QUEUE, value: "redis://redis.{{ $root.Release.Namespace }}:6379"}
            {{- end }}
            {{- if $queues }}
            - {name: PINNACE_QUEUE_PASSWORD_FILE, value: /queue/password}
            {{- end }}
            {{- if $root.Values.callbackSecret.name }}
            - {name: PINNACE_CALLBACK_SECRET, value: /callback/secret}
            {{- end }}
            {{- range $key, $value := omit $root.Values.settings "allow_hosts" }}
            - name: PINNACE_{{ upper $key }}
              value: {{ include "pinnace.setting" $value | quote }}
            {{- end }}
            {{- with $root.Values.extraEnv }}{{ toYaml . | nindent 12 }}{{ end }}
          ports:
            {{- range .ports }}
            - {{ . }}
            {{- end }}
            - {name: metrics, containerPort: 8082}
          startupProbe: {httpGet: {path: /healthz, port: metrics}, periodSeconds: 1, failureThreshold: 120}  # it reads the cluster first
          readinessProbe: {httpGet: {path: /readyz, port: metrics}, periodSeconds: 2}
          livenessProbe: {httpGet: {path: /healthz, port: metrics}, periodSeconds: 10, timeoutSeconds: 5}
          {{- if .sleeps }}
          lifecycle: {preStop: {sleep: {seconds: 5}}}  # until load balancers have let go
          {{- end }}
          resources: {{- toYaml $own.resources | nindent 12 }}
          securityContext:
            {{- include "pinnace.containerSecurity" . | nindent 12 }}
          volumeMounts:
            - {name: data, mountPath: /data}
            - {name: tmp, mountPath: /tmp}
            {{- if .login }}
            - {name: login, mountPath: /login, readOnly: true}
            {{- end }}
            {{- if .link }}
            - {name: link, mountPath: /link, readOnly: true}
            {{- end }}
            {{- if $queues }}
            - {name: queue, mountPath: /queue, readOnly: true}
            {{- end }}
            {{- if $root.Values.callbackSecret.name }}
            - {name: callback, mountPath: /callback, readOnly: true}
            {{- end }}
            {{- if $pushes }}
            - {name: registry, mountPath: /registry, readOnly: true}
            {{- end }}
      volumes:
        {{- if $own.dataClaim }}
        - {name: data, persistentVolumeClaim: {claimName: {{ $own.dataClaim }}}}
        {{- else }}
        - {name: data, emptyDir: {}}
        {{- end }}
        - {name: tmp, emptyDir: {}}
        {{- if .login }}
        - {name: login, secret: {secretName: {{ $root.Values.login.secret }}}}
        {{- end }}
        {{- if .link }}
        - {name: link, secret: {secretName: {{ $root.Values.linkSecret.name }}}}
        {{- end }}
        {{- if $queues }}
        - {name: queue, secret: {secretName: {{ $root.Values.redis.enabled | ternary "redis" $root.Values.queuePassword }}, items: [{key: password, path: password}]}}
        {{- end }}
        {{- with $root.Values.callbackSecret.name }}
        - {name: callback, secret: {secretName: {{ . }}}}
        {{- end }}
        {{- if $pushes }}
        - {name: registry, secret: {secretName: {{ $root.Values.registryCredentials }}, items: [{key: .dockerconfigjson, path: config.json}]}}
        {{- end }}
      {{- range $key := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "priorityClassName" }}
      {{- with get $own $key }}
      {{ $key }}: {{- if kindIs "string" . }} {{ . }}{{ else }}{{ toYaml . | nindent 8 }}{{ end }}
      {{- end }}
      {{- end }}
{{- end }}

{{/* A NetworkPolicy of one role. Takes root, component, and rules: lists of a port and from whom. */}}
{{- define "pinnace.policy" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ .component }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "pinnace.labels" (dict "root" .root "component" .component) | nindent 4 }}
spec:
  podSelector:
    matchLabels:
      {{- include "pinnace.selector" .component | nindent 6 }}
  policyTypes: [Ingress]
  ingress:
    {{- range .rules }}
    - ports: [{port: {{ first . }}, protocol: TCP}]
      {{- with last . }}
      from: {{- toYaml . | nindent 8 }}
      {{- end }}
    {{- end }}
    - ports: [{port: metrics, protocol: TCP}]
      {{- with .root.Values.networkPolicy.scrapers }}
      from: {{- toYaml . | nindent 8 }}
      {{- end }}
{{- end }}
