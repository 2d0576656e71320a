-- What the store in Redis does: each argument is one operation (msgpack: its name, then its values), done in turn; the answer
-- has a list of fields for each of them. One run is one step: all of it is seen, and is in the append-only file, or none.
--
-- KEYS[1] is the store's name in braces, the hash tag: all keys begin with it, so that a cluster has them in one slot.
--   :seq :turns :kept   counters: calls, turns of queues, bytes of ended calls
--   :queues             hash: queue → its number Q                     :q:Q    hash: its counts
--   :due :turn          zsets: Q by when its first call is due, and by when it was served last
--   :s:Q                stream: the requests, in the order of submission; the entry of call N is N-0
--   :w:Q                zset: waiting calls by due                      :n:Q:S  zset: calls in state S by number
--   :k:Q                hash: idempotency key → call
--   :c:ID               hash: where the call stands                    :o:ID   outcome of its last attempt, and short result
--   :l :e:S             zsets: running calls by the end of their lease, ended ones by their end
--   :b:WHERE            a body that is longer than what is kept in the stream
local P = KEYS[1]
local call, pack, unpacked = redis.call, struct.pack, unpack
local WAITING, RUNNING, SUCCEEDED, DEAD, CANCELLED = 0, 1, 2, 3, 4
local SWEPT_AT_ONCE, TAKEN_AT_ONCE, FOREIGN = 500, 500, 200

local function whole(number) return string.format('%.0f', number) end
-- A time as text, exactly; of a run's calls most have the same few.
local texts = {}
local function exact(time)
  local text = texts[time] or string.format('%.17g', time)
  texts[time] = text
  return text
end
local function key(kind, name) return P .. ':' .. kind .. ':' .. name end
local function line(kind, queue) return P .. ':' .. kind .. ':' .. exact(queue) end
local function standing(queue, state) return P .. ':n:' .. exact(queue) .. ':' .. exact(state) end
-- Of calls that are due at the same time the one that was submitted first is first: members sort by their text.
local function member(n, id) return string.format('%012.0f', n) .. id end
local function id_of(waiting) return string.sub(waiting, 13) end

-- counters and queues are read once and written once, in `settle`

local counters = {}
local function counter(name)
  if not counters[name] then counters[name] = tonumber(call('GET', P .. ':' .. name) or 0) end
  return counters[name]
end
local function counted(name, by)
  counters[name] = counter(name) + by
  return counters[name]
end

local queues, numbers = {}, {}
local function number_of(name)
  if numbers[name] == nil then numbers[name] = tonumber(call('HGET', P .. ':queues', name) or nil) or false end
  return numbers[name]
end
local function queue_by(number)
  local queue = queues[number]
  if not queue then
    local f = call('HMGET', line('q', number), 'name', 'waiting', 'running', 'dead', 'bytes', 'kept', 'calls')
    queue = {
      number = number, name = f[1], waiting = tonumber(f[2]), running = tonumber(f[3]), dead = tonumber(f[4]),
      bytes = tonumber(f[5]), kept = tonumber(f[6]), calls = tonumber(f[7]),
    }
    queues[number] = queue
  end
  return queue
end
local function queue_made(name)
  local number = number_of(name)
  if number then return queue_by(number) end
  number = counted('seq', 1)
  call('HSET', P .. ':queues', name, number)
  call('ZADD', P .. ':turn', counted('turns', 1), number)
  numbers[name] = number
  queues[number] = {
    number = number, name = name, waiting = 0, running = 0, dead = 0, bytes = 0, kept = 0, calls = 0, touched = true,
  }
  return queues[number]
end

-- Changes of sorted sets are gathered, and made at once for all calls of a run: before anything that reads those sets.

local additions, removals = {}, {}
local function add(set, score, name)
  local list = additions[set] or {}
  additions[set] = list
  list[#list + 1], list[#list + 2] = score, name
end
local function remove(set, name)
  local list = removals[set] or {}
  removals[set] = list
  list[#list + 1] = name
end
local function apply()
  for set, list in pairs(removals) do
    for i = 1, #list, 2000 do call('ZREM', set, unpacked(list, i, math.min(i + 1999, #list))) end
  end
  for set, list in pairs(additions) do
    for i = 1, #list, 2000 do call('ZADD', set, unpacked(list, i, math.min(i + 1999, #list))) end
  end
  additions, removals = {}, {}
end

local work, over = false, {}

local function settle()
  apply()
  for number, q in pairs(queues) do
    if q.touched and q.calls <= 0 then
      call('DEL', line('q', number), line('s', number), line('w', number), line('k', number))
      call('HDEL', P .. ':queues', q.name)
      call('ZREM', P .. ':turn', number)
      call('ZREM', P .. ':due', number)
    elseif q.touched then
      call('HSET', line('q', number), 'name', q.name, 'waiting', q.waiting, 'running', q.running, 'dead', q.dead,
        'bytes', q.bytes, 'kept', q.kept, 'calls', q.calls)
      if q.moved then
        local first = call('ZRANGE', line('w', number), 0, 0, 'WITHSCORES')
        if first[2] then call('ZADD', P .. ':due', first[2], number) else call('ZREM', P .. ':due', number) end
      end
    end
  end
  for name, value in pairs(counters) do call('SET', P .. ':' .. name, value) end
  if work or #over > 0 then call('PUBLISH', P .. ':news', (work and 'w' or 'e') .. table.concat(over, ' ')) end
end

-- calls

-- What a call takes besides its request, bodies and outcome.
local ENTRY = 512
local STANDING = { 'q', 'n', 's', 'k', 'z', 'z0', 'w', 'rw', 'rz', 'key', 'bz' }
local function found(id)
  local f = call('HMGET', key('c', id), unpacked(STANDING))
  if not f[1] then return nil end
  return {
    id = id, queue = queue_by(tonumber(f[1])), n = tonumber(f[2]), state = tonumber(f[3]), takes = tonumber(f[4] or 0),
    size = tonumber(f[5]), asked = tonumber(f[6] or 0), body = f[7] or '', result = f[8] or '', result_size = tonumber(f[9] or 0),
    key = f[10], body_size = tonumber(f[11] or 0),
  }
end
local function leased(id, take)
  local c = found(id)
  if c and c.state == RUNNING and c.takes == take then return c end
  return nil
end
local function restate(c, state)
  remove(standing(c.queue.number, c.state), c.id)
  add(standing(c.queue.number, state), c.n, c.id)
  c.queue.touched = true
end
local function wait_again(c, due)
  remove(P .. ':l', c.id)
  add(line('w', c.queue.number), due, member(c.n, c.id))
  restate(c, WAITING)
  c.queue.running = c.queue.running - 1
  c.queue.waiting = c.queue.waiting + 1
  c.queue.moved = true
  work = true
end
local function drop_body(where) if where ~= '' then call('UNLINK', key('b', where)) end end
local function lost(where, data) return where ~= '' and data == '' and call('EXISTS', key('b', where)) == 0 end
local function keep_body(where, data)
  if where == '' then return end
  if data ~= '' then call('SET', key('b', where), data) else call('PERSIST', key('b', where)) end
end

-- An entry of a submission: queue, id, another one if somebody chose the first, key, due, expires, request, size of the body, its bytes or where it is.
local function insert(e, id, now)
  local q = queue_made(e[1])
  local n = counted('seq', 1)
  local due, size = math.max(e[5], now), e[8] + #e[7]
  local number, due_text = whole(n), exact(due)
  local stands = {
    'q', exact(q.number), 'n', number, 's', '0', 't', exact(now), 'd', due_text, 'z', exact(size), 'bz', exact(e[8]),
  }
  local function also(name, value) stands[#stands + 1] = name; stands[#stands + 1] = value end
  if e[6] ~= 0 then also('x', exact(e[6])) end
  if e[10] ~= '' then also('w', e[10]) end
  if e[4] ~= '' then
    also('key', e[4])
    call('HSET', line('k', q.number), e[4], id)
  end
  if e[10] == '' and e[9] ~= '' then
    call('XADD', line('s', q.number), number .. '-0', 'i', id, 'r', e[7], 'b', e[9])
  else
    keep_body(e[10], e[9])
    call('XADD', line('s', q.number), number .. '-0', 'i', id, 'r', e[7])
  end
  call('HSET', key('c', id), unpacked(stands))
  add(line('w', q.number), due_text, member(n, id))
  add(standing(q.number, WAITING), number, id)
  q.waiting, q.bytes, q.calls = q.waiting + 1, q.bytes + size, q.calls + 1
  q.touched, q.moved, work = true, true, true
end

-- `most` has for each queue how many calls, and bytes of them, may wait there; without it nothing is refused.
local function submit(entries, now, most)
  local receipts, fresh, keys, ids, calls, sizes = { 'ok' }, {}, {}, {}, {}, {}
  for _, e in ipairs(entries) do
    local known = false
    if e[4] ~= '' then
      local number = number_of(e[1])
      known = number and call('HGET', line('k', number), e[4]) or keys[e[1] .. '\0' .. e[4]] or false
    end
    if known then
      receipts[#receipts + 1], receipts[#receipts + 2] = known, 'r'
    else
      if lost(e[10], e[9]) then return { 'lost' } end
      local id = e[2]
      if e[3] ~= '' and (ids[id] or call('EXISTS', key('c', id)) == 1) then id = e[3] end
      if e[4] ~= '' then keys[e[1] .. '\0' .. e[4]] = id end
      ids[id] = true
      fresh[#fresh + 1] = { e, id }
      calls[e[1]] = (calls[e[1]] or 0) + 1
      sizes[e[1]] = (sizes[e[1]] or 0) + e[8] + #e[7]
      receipts[#receipts + 1], receipts[#receipts + 2] = id, ''
    end
  end
  if most then
    for name, count in pairs(calls) do
      local number = number_of(name)
      local waiting, bytes = 0, 0
      if number then waiting, bytes = queue_by(number).waiting, queue_by(number).bytes end
      if waiting + count > most[name][1] then return { 'full', 'calls', name, whole(waiting) } end
      if bytes + sizes[name] > most[name][2] then return { 'full', 'bytes', name, whole(bytes) } end
    end
  end
  for _, one in ipairs(fresh) do insert(one[1], one[2], now) end
  return receipts
end

local SHOWN = { 'q', 's', 't', 'd', 'x', 'e', 'a', 'k', 'key', 'bz', 'w', 'rz', 'rw', 'n' }
local INLINE = 65536
-- Add the fields of a call (`wire.CALL_FIELDS` of them), with its bodies or without; one that is `taken` is running from now.
local function show(out, id, bodies, taken)
  local f = call('HMGET', key('c', id), unpacked(SHOWN))
  if not f[1] then return false end
  local outcome = f[8] and call('GET', key('o', id)) or ''  -- of one that was never taken there is none
  if taken then
    f[2], f[7], f[8] = '1', whole((f[7] or 0) + 1), whole((f[8] or 0) + 1)
    call('HSET', key('c', id), 's', f[2], 'a', f[7], 'k', f[8])
  end
  local number, state, size = tonumber(f[1]), tonumber(f[2]), tonumber(f[10])
  local entry = call('XRANGE', line('s', number), f[14] .. '-0', f[14] .. '-0')[1][2]
  local there, body, where, result_where = '', '', '', ''
  if not bodies then
    outcome = outcome ~= '' and string.sub(outcome, 1, 4 + struct.unpack('>I4', outcome)) or ''
  else
    if state == SUCCEEDED or state == CANCELLED then there = ''
    elseif (f[11] or '') == '' then there, body = 'd', entry[6] or ''
    elseif size <= INLINE then there, body = 'd', call('GET', key('b', f[11])) or ''
    else there, where = 'w', f[11] end
    result_where = f[13] or ''
  end
  local last = #out
  for i, field in ipairs({
    id, queue_by(number).name, f[2], f[3], f[4], f[5] or '0', f[6] or '0', f[7] or '0', f[8] or '0', f[9] or '', entry[4], outcome,
    f[10], there, body, where, f[12] or '0', result_where,
  }) do out[last + i] = field end
  return true
end

local function ended(c, state, now, outcome, result_size, data, where)
  local q = c.queue
  local kept = ENTRY + c.size  -- a short body stays in the stream with its request
  if state ~= DEAD and c.body ~= '' then kept = kept - c.body_size end
  if outcome then
    kept = kept + result_size + #outcome
    call('SET', key('o', c.id), pack('>I4', #outcome) .. outcome .. data)
    keep_body(where, '')
    call('HSET', key('c', c.id), 's', exact(state), 'e', exact(now), 'z', exact(kept), 'rz', exact(result_size), 'rw', where)
  else
    call('HSET', key('c', c.id), 's', exact(state), 'e', exact(now), 'z', exact(kept))
  end
  if state == DEAD then call('HSET', key('c', c.id), 'z0', c.size) end  -- what it holds when it is replayed
  if state ~= DEAD and c.body ~= '' then  -- only a dead call is ever carried out again
    drop_body(c.body)
    call('HDEL', key('c', c.id), 'w')
  end
  restate(c, state)
  add(line('e', state), exact(now), c.id)
  if c.state == RUNNING then
    remove(P .. ':l', c.id)
    q.running = q.running - 1
  else
    remove(line('w', q.number), member(c.n, c.id))
    q.waiting, q.moved = q.waiting - 1, true
  end
  q.bytes, q.kept = q.bytes - c.size, q.kept + kept
  if state == DEAD then q.dead = q.dead + 1 end
  counted('kept', kept)
  work = true
  over[#over + 1] = c.id
end

local function replay(c, now)
  local q, outcome = c.queue, call('GET', key('o', c.id))
  if outcome then call('SET', key('o', c.id), string.sub(outcome, 1, 4 + struct.unpack('>I4', outcome))) end
  drop_body(c.result)
  call('HSET', key('c', c.id), 's', WAITING, 'd', now, 'a', 0, 'z', c.asked)
  call('HDEL', key('c', c.id), 'x', 'e', 'rz', 'rw')
  remove(line('e', DEAD), c.id)
  add(line('w', q.number), now, member(c.n, c.id))
  restate(c, WAITING)
  q.dead, q.kept, q.waiting, q.bytes = q.dead - 1, q.kept - c.size, q.waiting + 1, q.bytes + c.asked
  counted('kept', -c.size)
  q.moved, work = true, true
end

local function forget(c)
  local q = c.queue
  call('DEL', key('c', c.id), key('o', c.id))
  drop_body(c.body)
  drop_body(c.result)
  call('XDEL', line('s', q.number), whole(c.n) .. '-0')
  remove(standing(q.number, c.state), c.id)
  remove(line('e', c.state), c.id)
  if c.key then call('HDEL', line('k', q.number), c.key) end
  q.kept, q.calls, q.touched = q.kept - c.size, q.calls - 1, true
  if c.state == DEAD then q.dead = q.dead - 1 end
  counted('kept', -c.size)
end

local operations = {}

function operations.submit(o) return submit(o[4], o[2], o[3]) end

-- now, end of the lease, how many, limits by queue, whether those of others do not matter → queues whose limit is not told,
-- then the calls
function operations.take(o)
  local now, limits, left = o[2], o[5], math.min(o[4], TAKEN_AT_ONCE)
  local foreign, some = {}, {}
  for _, text in ipairs(call('ZRANGEBYSCORE', P .. ':due', '-inf', now)) do
    local q = queue_by(tonumber(text))
    local limit = limits[q.name]
    if limit == nil then
      if #foreign < FOREIGN then foreign[#foreign + 1] = q.name end
    elseif limit > q.running then
      some[#some + 1] = {
        queue = q, turn = tonumber(call('ZSCORE', P .. ':turn', text) or 0), got = 0,
        room = math.min(limit - q.running, call('ZCOUNT', line('w', q.number), '-inf', now)),
      }
    end
  end
  local out = { 'ok', whole(#foreign), unpacked(foreign) }
  if #foreign > 0 and not o[6] then return out end
  table.sort(some, function(a, b) return a.turn < b.turn end)
  local dealt, before = {}, -1
  while left > 0 and #dealt > before do
    before = #dealt
    for _, one in ipairs(some) do
      if left > 0 and one.got < one.room then
        one.got, one.turn, left = one.got + 1, counted('turns', 1), left - 1
        dealt[#dealt + 1] = { one, one.got }
      end
    end
  end
  for _, one in ipairs(some) do
    if one.got > 0 then
      local q = one.queue
      one.members = call('ZRANGE', line('w', q.number), 0, one.got - 1)
      call('ZREM', line('w', q.number), unpacked(one.members))
      call('ZADD', P .. ':turn', one.turn, q.number)
      q.waiting, q.running, q.touched, q.moved = q.waiting - one.got, q.running + one.got, true, true
    end
  end
  for _, deal in ipairs(dealt) do
    local id, q = id_of(deal[1].members[deal[2]]), deal[1].queue
    add(P .. ':l', exact(o[3]), id)
    restate({ id = id, queue = q, state = WAITING, n = string.sub(deal[1].members[deal[2]], 1, 12) }, RUNNING)
    show(out, id, true, true)
  end
  return out
end

function operations.extend(o)
  if not leased(o[2], o[3]) then return { 'no' } end
  call('ZADD', P .. ':l', o[4], o[2])
  return { 'ok' }
end

-- id, take, state, now, outcome, size of the result, its bytes or where it is, what follows
function operations.finish(o)
  local c = leased(o[2], o[3])
  if not c then return { 'no' } end
  if lost(o[9], o[8]) then return { 'lost' } end
  for _, e in ipairs(o[10]) do
    if lost(e[10], e[9]) then return { 'lost' } end
  end
  ended(c, o[4], o[5], o[6], o[7], o[8], o[9])
  submit(o[10], o[5])
  return { 'ok' }
end

-- id, take, due, outcome
function operations.retry(o)
  local c = leased(o[2], o[3])
  if not c then return { 'no' } end
  call('HSET', key('c', c.id), 's', WAITING, 'd', o[4])
  call('SET', key('o', c.id), pack('>I4', #o[5]) .. o[5])
  wait_again(c, o[4])
  return { 'ok' }
end

function operations.release(o)
  for _, lease in ipairs(o[2]) do
    local c = leased(lease[1], lease[2])
    if c then
      call('HSET', key('c', c.id), 's', WAITING)
      call('HINCRBY', key('c', c.id), 'a', -1)
      wait_again(c, call('HGET', key('c', c.id), 'd'))
    end
  end
  return { 'ok' }
end

function operations.cancel(o)
  local c = found(o[2])
  if not c then return { 'no' } end
  if c.state <= RUNNING then ended(c, CANCELLED, o[3]) end
  return { 'ok', whole(c.state) }
end

function operations.replay(o)
  local c = found(o[2])
  if not c then return { 'no' } end
  if c.state == DEAD then replay(c, o[3]) end
  return { 'ok', whole(c.state) }
end

function operations.replay_all(o)
  local number = number_of(o[2])
  local ids = number and call('ZRANGE', standing(number, DEAD), 0, math.min(o[4], SWEPT_AT_ONCE) - 1) or {}
  for _, id in ipairs(ids) do replay(found(id), o[3]) end
  return { 'ok', whole(#ids) }
end

function operations.get(o)
  local out = { 'ok' }
  show(out, o[2], true)
  return out
end

-- queue or '', states, how many, before which call or ''
function operations.page(o)
  local top, of, out, left = '+inf', {}, { 'ok' }, o[4]
  if o[5] ~= '' then
    local n = call('HGET', key('c', o[5]), 'n')
    if not n then return out end
    top = '(' .. n
  end
  if o[2] == '' then
    for _, number in ipairs(call('HVALS', P .. ':queues')) do of[#of + 1] = tonumber(number) end
  elseif number_of(o[2]) then
    of[1] = number_of(o[2])
  end
  local function head(lane, from)
    local f = call('ZREVRANGEBYSCORE', lane, from, '-inf', 'WITHSCORES', 'LIMIT', 0, 1)
    return f[1] and { lane = lane, id = f[1], n = tonumber(f[2]) } or nil
  end
  local heads = {}
  for _, number in ipairs(of) do
    for _, state in ipairs(o[3]) do heads[#heads + 1] = head(standing(number, state), top) end
  end
  -- Each list gives its newest first: one whose newest is not among the first `left` gives nothing to this page.
  table.sort(heads, function(a, b) return a.n > b.n end)
  while #heads > left do heads[#heads] = nil end
  while left > 0 and #heads > 0 do
    local best = 1
    for i, one in ipairs(heads) do if one.n > heads[best].n then best = i end end
    local one = heads[best]
    show(out, one.id, false)
    left = left - 1
    local next_one = head(one.lane, '(' .. whole(one.n))
    if next_one then heads[best] = next_one else table.remove(heads, best) end
  end
  return out
end

function operations.depths(o)
  local out, late = { 'ok' }, {}
  local due = call('ZRANGEBYSCORE', P .. ':due', '-inf', o[2], 'WITHSCORES')
  for i = 1, #due, 2 do late[due[i]] = due[i + 1] end
  for _, number in ipairs(call('HVALS', P .. ':queues')) do
    local q = queue_by(tonumber(number))
    if q.waiting > 0 or q.running > 0 or q.dead > 0 then
      for _, field in ipairs({ q.name, whole(q.waiting), whole(q.running), whole(q.dead), whole(q.bytes), late[number] or '0',
        late[number] and whole(call('ZCOUNT', line('w', q.number), '-inf', o[2])) or '0' }) do
        out[#out + 1] = field
      end
    end
  end
  return out
end

-- now, seconds that ended calls are kept, dead ones, bytes of both
function operations.sweep(o)
  local now = o[2]
  local over_due = call('ZRANGEBYSCORE', P .. ':l', '-inf', now, 'LIMIT', 0, SWEPT_AT_ONCE)
  for _, id in ipairs(over_due) do
    local c = found(id)
    call('HSET', key('c', id), 's', WAITING, 'd', now)
    wait_again(c, now)
  end
  local gone = 0
  for _, of in ipairs({ { SUCCEEDED, o[3] }, { CANCELLED, o[3] }, { DEAD, o[4] } }) do
    for _, id in ipairs(call('ZRANGEBYSCORE', line('e', of[1]), '-inf', now - of[2], 'LIMIT', 0, SWEPT_AT_ONCE - gone)) do
      forget(found(id))
      gone = gone + 1
    end
  end
  if gone == 0 then
    for _, state in ipairs({ SUCCEEDED, CANCELLED, DEAD }) do
      if counter('kept') > o[5] and gone < SWEPT_AT_ONCE then
        for _, id in ipairs(call('ZRANGE', line('e', state), 0, SWEPT_AT_ONCE - 1)) do
          if counter('kept') <= o[5] or gone >= SWEPT_AT_ONCE then break end
          forget(found(id))
          gone = gone + 1
        end
      end
    end
  end
  return { 'ok', (#over_due >= SWEPT_AT_ONCE or gone >= SWEPT_AT_ONCE) and '1' or '' }
end

function operations.next_due(_)
  local first = call('ZRANGE', P .. ':due', 0, 0, 'WITHSCORES')
  return { 'ok', first[2] }
end

local answers, put = {}, 0
local function answer(bytes)
  put = put + 1
  answers[put] = bytes
end
-- These read no sorted set, and each call is in one of them at most: the sets may change after the last of them.
local gathers = { submit = true, finish = true, retry = true }
for i = 1, #ARGV do
  local o = cmsgpack.unpack(ARGV[i])
  if not gathers[o[1]] then apply() end
  local well, fields = pcall(operations[o[1]], o)
  if not gathers[o[1]] then apply() end
  if not well then
    -- What an error leaves half done is one call's; counts and lines stay true to what was written.
    fields = { 'error', type(fields) == 'table' and fields.err or tostring(fields) }
  end
  answer(pack('>I4', #fields))
  for _, field in ipairs(fields) do answer(pack('>I4c0', #field, field)) end
end
settle()
return table.concat(answers)
