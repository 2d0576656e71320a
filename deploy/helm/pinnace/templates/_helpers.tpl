{{- define "pinnace.selector" -}}
app.kubernetes.io/name: pinnace
app.kubernetes.io/component: {{ . }}
{{- end }}

{{- define "pinnace.labels" -}}
{{ include "pinnace.selector" .component }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
{{- end }}

{{- define "pinnace.image" -}}
{{ .repository }}{{ with .tag }}:{{ . }}{{ end }}{{ with .digest }}@{{ . }}{{ end }}
{{- end }}

{{/* Names by which the API is called: a web page must not reach it by any other. */}}
{{- define "pinnace.hosts" -}}
{{- $namespace := .Release.Namespace -}}
{{- $names := list "gateway" (printf "gateway.%s" $namespace) (printf "gateway.%s.svc" $namespace) (printf "gateway.%s.svc.cluster.local" $namespace) -}}
{{- if .Values.ingress.enabled }}{{ $names = concat $names .Values.ingress.hosts }}{{ end -}}
{{- if .Values.httpRoute.enabled }}{{ $names = concat $names .Values.httpRoute.hostnames }}{{ end -}}
{{- with .Values.settings.allow_hosts }}{{ $names = concat $names (kindIs "slice" . | ternary . (splitList "," (toString .))) }}{{ end -}}
{{ $names | uniq | join "," }}
{{- end }}

{{/* A setting as the environment has it: lists are joined, numbers are not written as 1e+06. */}}
{{- define "pinnace.setting" -}}
{{- if kindIs "slice" . }}{{ join "," . }}{{ else if kindIs "float64" . }}{{ if eq (floor .) . }}{{ int64 . }}{{ else }}{{ . }}{{ end }}{{ else }}{{ . }}{{ end -}}
{{- end }}

{{- define "pinnace.podSecurity" -}}
runAsNonRoot: true
runAsUser: 12000
runAsGroup: 12000
fsGroup: 12000
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "pinnace.containerSecurity" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
{{- end }}
