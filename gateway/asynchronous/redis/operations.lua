-- What a batch is made of. Each operation answers with a list of fields, or with nothing but a word.
local YES, NO, LOST = { 'ok' }, { 'no' }, { 'lost' }
local SWEPT_AT_ONCE, TAKEN_AT_ONCE, FOREIGN, PASSED = 500, 500, 200, 2000
local INLINE = 65536

-- A submission: its length, queue, calls and bytes that may wait there, id, another one if somebody chose the first, bytes of
-- the body that is to be kept apart, whether it is to wait, the entry.
local SUBMISSION = '>I4Bc0ddBc0Bc0I4c0B' .. sub(HEADER, 2)
local function submission_at(batch, from)
  local length, queue, calls, bytes, id, other, data, later, _, size, _, where, key = parse(SUBMISSION, batch, from)
  local entry = sub(batch, from + 28 + #queue + #id + #other + #data, from + length - 1)
  return {
    queue = queue, calls = calls, bytes = bytes, id = id, other = other, data = data, later = later == 1, size = size,
    where = where, key = key, entry = entry,
  }, from + length
end
local function put(e, id)
  keep_body(e.where, e.data)
  insert(e.queue, id, e.entry, e.later, e.key, e.size)
end

-- All of them or none. Without `bounded` nothing is refused.
local function submit(submissions, bounded)
  local receipts, fresh, keys, ids, calls, sizes, as_wished = { 'ok' }, {}, {}, {}, {}, {}, true
  for _, e in ipairs(submissions) do
    local known, key = false, e.queue .. '\0' .. e.key
    if e.key ~= '' then
      local number = number_of(e.queue)
      known = number and call('HGET', line('k', number), e.key) or keys[key] or false
    end
    if known then
      receipts[#receipts + 1], receipts[#receipts + 2], as_wished = known, 'r', false
    else
      if lost(e.where, e.data) then return LOST end
      local id = e.id
      if e.other ~= '' and (ids[id] or record(id)) then id, as_wished = e.other, false end
      keys[key], ids[id] = id, true
      fresh[#fresh + 1] = { e, id }
      calls[e.queue] = (calls[e.queue] or 0) + 1
      sizes[e.queue] = (sizes[e.queue] or 0) + e.size
      receipts[#receipts + 1], receipts[#receipts + 2] = id, ''
    end
  end
  if bounded then
    for _, one in ipairs(fresh) do
      local e, waiting, bytes = one[1], 0, 0
      local number = number_of(e.queue)
      if number then waiting, bytes = queue_by(number).waiting, queue_by(number).bytes end
      if waiting + calls[e.queue] > e.calls then return { 'full', 'calls', e.queue, exact(waiting) } end
      if bytes + sizes[e.queue] > e.bytes then return { 'full', 'bytes', e.queue, exact(bytes) } end
    end
  end
  for _, one in ipairs(fresh) do put(one[1], one[2]) end
  return as_wished and YES or receipts
end

-- Most come alone and want nothing special.
local function submit_one(batch, from)
  local length, queue, calls, bytes, id, other, data, later, _, size, _, where, key = parse(SUBMISSION, batch, from)
  if other ~= '' or where ~= '' or key ~= '' then return submit({ (submission_at(batch, from)) }, true) end
  local number = number_of(queue)
  if number then
    local q = queue_by(number)
    if q.waiting >= calls then return { 'full', 'calls', queue, exact(q.waiting) } end
    if q.bytes + size > bytes then return { 'full', 'bytes', queue, exact(q.bytes) } end
  elseif calls < 1 or size > bytes then
    return { 'full', calls < 1 and 'calls' or 'bytes', queue, '0' }
  end
  insert(queue, id, sub(batch, from + 28 + #queue + #id + #data, from + length - 1), later == 1, '', size)
  return YES
end

local function submissions_until(batch, from, last)
  local list = {}
  while from < last do list[#list + 1], from = submission_at(batch, from) end
  return list
end

-- Its length, id, take, state, now, size of the result, where it is kept if not with the call, length of the outcome, that and
-- the bytes of the result if they come along; then what follows from the end.
local FINISH = '>I4Bc0I4BdI4Bc0I4I4c0'
local SUCCESS = string.char(SUCCEEDED)
local function finish(batch, from)
  local length, id, take, state, now, size, where, outcome_size, come, after = parse(FINISH, batch, from)
  local text = record(id)
  if not text or byte(text) ~= RUNNING then return NO end
  local number, takes, _, _, asked, _, group = parse('>I4I4I4dI4I4d', text, 9)
  if takes ~= take then return NO end
  if state == SUCCEEDED and where == '' and after == from + length and byte(text, PLACES_AT) == 0 then  -- as most are
    local q, kept = queue_by(number), ENTRY + asked + size + outcome_size
    write_record(id, SUCCESS .. sub(text, 2, TAKEN_BYTES) .. pack('>dI4I4HI4', now, kept, size, 0, outcome_size) .. come)
    leave(group)
    q.running, q.bytes, q.touched = q.running - 1, q.bytes - asked, true
    counted(KEPT, kept)
    over[#over + 1], told[#told + 1], work = id, id, true
    return YES
  end
  local outcome, data = sub(come, 1, outcome_size), sub(come, outcome_size + 1)
  if lost(where, data) then return LOST end
  local follows = submissions_until(batch, after, from + length)
  for _, e in ipairs(follows) do
    if lost(e.where, e.data) then return LOST end
  end
  ended(found(id), state, now, outcome, size, where, data)
  if #follows > 0 then submit(follows, false) end
  return YES
end

-- Up to `count` calls of the stream that wait, behind the holes before them; how far that is, how many holes, and when the last
-- one that was looked at was due. There are fewer only where very many holes are in the way.
local function fresh_of(q, count)
  local out, passed, holes, due = {}, q.cursor, 0, 0
  while #out < count and holes < PASSED do
    local most = count - #out + min(q.holes - holes, 200)
    local entries, ids = call('XRANGE', q.stream, '(' .. passed .. '-0', '+', 'COUNT', most), {}
    if #entries == 0 then break end
    if q.holes > holes then
      for i = 1, #entries do ids[i] = entries[i][2][1] end
      read_records(ids)
    end
    for i = 1, #entries do
      if #out == count then break end
      local id, entry = entries[i][2][1], entries[i][2][2]
      passed = tonumber(sub(entries[i][1], 1, -3))
      if q.holes > holes and #record(id) ~= THIN_BYTES then
        holes, due = holes + 1, parse('>d', entry)
      else
        local size, body_size, where, key
        due, size, body_size, where, key = parse(HEADER, entry)
        out[#out + 1] = {
          id = id, n = passed, queue = q.number, flags = key ~= '' and KEYED or 0, due = due, size = size,
          body_size = body_size, where = where, entry = entry, behind = holes,
        }
      end
    end
  end
  return out, passed, holes, due
end

-- Take up to `count` calls that are due out of a queue's line, the one that was due first first.
local function out_of_line(q, count, now)
  local fresh, passed, holes = fresh_of(q, min(count, q.fresh))
  local timed, ids, list, a, b = {}, {}, {}, 1, 1
  if q.waiting > q.fresh then
    local members = call('ZRANGEBYSCORE', apply(line('w', q.number)), '-inf', now, 'LIMIT', 0, count)
    for i = 1, #members do ids[i] = sub(members[i], 13) end
    read_records(ids)
    for i = 1, #ids do timed[i] = found(ids[i]) end
  end
  while #list < count do
    local one, other = fresh[a], timed[b]
    if one and (not other or one.due < other.due or (one.due == other.due and one.n < other.n)) then
      list[#list + 1], a = one, a + 1
    elseif other then
      list[#list + 1], b = other, b + 1
      await_no_more(other)
    else
      break
    end
  end
  if a > #fresh then
    q.cursor, q.holes = passed, q.holes - holes
  elseif a > 1 then
    q.cursor, q.holes = fresh[a - 1].n, q.holes - fresh[a - 1].behind
  end
  q.fresh, q.waiting, q.running = q.fresh - (a - 1), q.waiting - (a - 1), q.running + #list
  q.touched, q.moved = true, true
  return list
end

-- A call as it goes to who asks, after the lengths of these: id, queue, record, entry, body and result where they are apart and
-- not long. Without bodies all of that is cut off.
local function show(out, c, bodies)
  local id, name, text, entry, body, result = c.id, queue_by(c.queue).name, record(c.id), c.entry or entry_of(c), '', ''
  if not bodies then
    local _, _, body_size, where = parse(HEADER, entry)
    if where == '' then entry = sub(entry, 1, #entry - body_size) end
    text = sub(text, 1, #text - #c.result)
  else
    if c.where ~= '' and c.body_size <= INLINE then body = call('GET', body_key(c.where)) or '' end
    if c.result_where and c.result_where ~= '' and c.result_size <= INLINE then
      result = call('GET', body_key(c.result_where)) or ''
    end
  end
  local head, last = pack('>BBI4I4I4I4', #id, #name, #text, #entry, #body, #result) .. id .. name .. text, #out
  out[last + 1], out[last + 2], out[last + 3], out[last + 4] = head, entry, body, result
  out.size = out.size + #head + #entry + #body + #result
end

local operations = {}

-- now, end of the lease, how many, limits by queue, whether those of others do not matter → whether there is more; where there
-- are no calls, when the first is due; calls; queues whose limit is not told
function operations.take(o)
  local now, limits, left = o[2], o[5], min(o[4], TAKEN_AT_ONCE)
  local foreign, some, more = {}, {}, ''
  local due_queues = call('ZRANGEBYSCORE', P .. ':due', '-inf', now)
  read_queues(due_queues)
  for _, number in ipairs(due_queues) do
    local q = queue_by(tonumber(number))
    local limit = limits[q.name]
    if limit == nil then
      if #foreign < FOREIGN then foreign[#foreign + 1] = q.name end
    elseif limit > q.running then
      local due = q.fresh
      if q.waiting > due then due = due + call('ZCOUNT', apply(line('w', q.number)), '-inf', now) end
      some[#some + 1] = { queue = q, got = 0, room = min(limit - q.running, due) }
    end
  end
  if #foreign > 0 and not o[6] then return { 'ok', '', '', '', unpacked(foreign) } end
  table.sort(some, function(a, b) return a.queue.turn < b.queue.turn end)
  local dealt, before = {}, -1
  while left > 0 and #dealt > before do
    before = #dealt
    for _, one in ipairs(some) do
      if left > 0 and one.got < one.room then
        one.got, one.queue.turn, left = one.got + 1, counted(TURNS, 1), left - 1
        dealt[#dealt + 1] = { one, one.got }
      end
    end
  end
  for _, one in ipairs(some) do
    if one.got > 0 then
      one.calls = out_of_line(one.queue, one.got, now)
      if #one.calls < one.got then more = '1' end
    end
  end
  local calls, ends, first = { size = 0 }, o[3], ''
  for _, deal in ipairs(dealt) do
    local c = deal[1].calls[deal[2]]
    if c then
      if c.behind then
        write_record(c.id, pack(RUNS, RUNNING, c.flags, c.n, c.queue, 1, 1, c.due, c.size, c.body_size, lease(c.id, ends))
          .. (c.where == '' and NOTHING or pack('>I4I4Bc0BI4', 0, 0, #c.where, c.where, 0, 0)))
      else
        c.state, c.takes, c.attempts, c.ended = RUNNING, c.takes + 1, c.attempts + 1, lease(c.id, ends)
        keep(c)
      end
      show(calls, c, true)
    end
  end
  if #calls == 0 then first = call('ZRANGE', P .. ':due', 0, 0, 'WITHSCORES')[2] or '' end
  return { 'ok', more, first, calls, unpacked(foreign) }
end

function operations.extend(o)
  local c = leased(o[2], o[3])
  if not c then return NO end
  leave(c.ended)
  c.ended = lease(c.id, o[4])
  keep(c)
  return YES
end

-- id, take, due, outcome
function operations.retry(o)
  local c = leased(o[2], o[3])
  if not c then return NO end
  c.due, c.outcome = o[4], o[5]
  wait_again(c, c.due)
  return YES
end

-- ids and takes, now; the clock may have been set back
function operations.release(o)
  for _, lease in ipairs(o[2]) do
    local c = leased(lease[1], lease[2])
    if c then
      c.attempts, c.due = c.attempts - 1, min(c.due, o[3])
      wait_again(c, c.due)
    end
  end
  return YES
end

-- id, now, what follows as submissions are written
function operations.cancel(o)
  local c = found(o[2])
  if not c then return NO end
  local state = c.state
  if state <= RUNNING then
    ended(c, CANCELLED, o[3])
    if o[4] ~= '' then submit(submissions_until(o[4], 1, #o[4] + 1), false) end
  end
  return { 'ok', exact(state) }
end

function operations.replay(o)
  local c = found(o[2])
  if not c then return NO end
  local state = c.state
  if state == DEAD then replay(c, o[3]) end
  return { 'ok', exact(state) }
end

function operations.replay_all(o)
  local number = number_of(o[2])
  local ids = number and call('ZRANGE', apply(standing(number, DEAD)), 0, min(o[4], SWEPT_AT_ONCE) - 1) or {}
  read_records(ids)
  for _, id in ipairs(ids) do replay(found(id), o[3]) end
  return { 'ok', exact(#ids) }
end
