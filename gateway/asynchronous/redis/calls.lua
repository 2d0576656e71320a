-- Calls: how a record and an entry look in bytes (`wire.py` reads them), and what happens to a call.

-- What a call takes besides its request, bodies and outcome.
local ENTRY = 512
local LATER, KEYED, REPLAYED = 1, 2, 4  -- flags: it is in :d:Q; it has a key; it does not expire any more
local has = bit.band
-- A record: state, flags, N, Q; nothing more, and no key, of a call that was never taken.
local THIN, THIN_BYTES = '>BBI6I4', 12
-- Else takes, attempts, due, bytes asked for, of the body. Then, for one that runs, the group of its lease, and for one that has
-- ended when that was; bytes kept, of the result; where body and result are; outcome; result. What is not yet is 0.
local TAKEN, TAKEN_BYTES = '>BBI6I4I4I4dI4I4', 36
local RUNS = TAKEN .. 'd'
local FULL, PLACES_AT = RUNS .. 'I4I4Bc0Bc0I4c0', TAKEN_BYTES + 17
local NOTHING = string.rep('\0', 14)
-- An entry: due, bytes asked for, of the body; where that is if it is not at the end; key; what is read by nobody here.
local HEADER = '>dI4I4Bc0I2c0'

local function drop_body(where) if where ~= '' then places[#places + 1] = body_key(where) end end
local function lost(where, data) return where ~= '' and data == '' and call('EXISTS', body_key(where)) == 0 end
local function keep_body(where, data)
  if where == '' then return end
  if data ~= '' then call('SET', body_key(where), data) else call('PERSIST', body_key(where)) end
end

local function stream_of(c) return line(has(c.flags, LATER) ~= 0 and 'd' or 's', c.queue) end
local function entry_of(c) return call('XRANGE', stream_of(c), c.n, c.n)[1][2][2] end
-- Of calls that are due at the same time the one that was submitted first is first: members sort by their text.
local function member(c) return string.format('%012.0f', c.n) .. c.id end

-- What the entry says of a call that was never taken.
local function with_entry(c, entry)
  local key
  c.entry = entry
  c.due, c.size, c.body_size, c.where, key = parse(HEADER, entry)
  if key ~= '' then c.flags = c.flags + KEYED end
  c.takes, c.attempts, c.ended, c.kept, c.result_size = 0, 0, 0, 0, 0
  c.result_where, c.outcome, c.result = '', '', ''
  return c
end
local function found(id)
  local text = record(id)
  if not text then return nil end
  local c, after = { id = id }, 0
  if #text == THIN_BYTES then
    c.state, c.flags, c.n, c.queue = parse(THIN, text)
    c.fresh = has(c.flags, LATER) == 0
    return with_entry(c, entry_of(c))
  end
  c.state, c.flags, c.n, c.queue, c.takes, c.attempts, c.due, c.size, c.body_size, c.ended, c.kept, c.result_size, c.where,
    c.result_where, c.outcome, after = parse(FULL, text)
  c.result = sub(text, after)
  return c
end
local function keep(c)
  write_record(c.id, pack(FULL, c.state, c.flags, c.n, c.queue, c.takes, c.attempts, c.due, c.size, c.body_size, c.ended,
    c.kept, c.result_size, #c.where, c.where, #c.result_where, c.result_where, #c.outcome, c.outcome) .. c.result)
end
local function leased(id, take)
  local text = record(id)
  if not text or byte(text) ~= RUNNING then return nil end
  local c = found(id)
  return c.takes == take and c or nil
end

local function await(c, due)
  add(line('w', c.queue), exact(due), member(c))
  add(standing(c.queue, WAITING), c.n, c.id)
  local q = queue_by(c.queue)
  q.waiting, q.touched, q.moved, work = q.waiting + 1, true, true, true
end
local function await_no_more(c)
  local q = queue_by(c.queue)
  if c.fresh then
    q.fresh, q.holes = q.fresh - 1, q.holes + 1
  else
    remove(line('w', c.queue), member(c))
    remove(standing(c.queue, WAITING), c.id)
  end
  q.waiting, q.touched, q.moved = q.waiting - 1, true, true
end
local function run_no_more(c)
  local q = queue_by(c.queue)
  leave(c.ended)
  q.running, q.touched = q.running - 1, true
end

local function wait_again(c, due)
  run_no_more(c)
  c.state, c.ended = WAITING, 0
  keep(c)
  await(c, due)
end

-- `size` is all that its request takes, with the body.
local function insert(queue, id, entry, later, key, size)
  local q = queue_made(queue)
  local n = counted(SEQ, 1)
  local number = q.number
  if later then
    call('XADD', line('d', number), n, id, entry)
    await({ id = id, n = n, queue = number }, (parse('>d', entry)))
  else
    if q.fresh == 0 then q.cursor, q.holes = n - 1, 0 end
    call('XADD', q.stream, n, id, entry)
    q.waiting, q.fresh, q.touched, work = q.waiting + 1, q.fresh + 1, true, true
  end
  if key ~= '' then call('HSET', line('k', number), key, id) end
  write_record(id, pack(THIN, WAITING, later and LATER or 0, n, number))
  q.bytes, q.calls = q.bytes + size, q.calls + 1
end

local function ended(c, state, now, outcome, result_size, result_where, result)
  local q = queue_by(c.queue)
  if c.state == RUNNING then run_no_more(c) else await_no_more(c) end
  c.kept = ENTRY + c.size  -- a short body stays with its request
  if state ~= DEAD and c.where ~= '' then  -- only a dead call is ever carried out again
    c.kept = c.kept - c.body_size
    drop_body(c.where)
    c.where = ''
  end
  if outcome then
    c.kept = c.kept + result_size + #outcome
    c.outcome, c.result_size, c.result_where, c.result = outcome, result_size, result_where, result
    if result_where ~= '' then
      keep_body(result_where, result)
      c.result = ''
    end
  end
  c.state, c.ended = state, now
  keep(c)
  if state == DEAD then
    q.dead = q.dead + 1
    add(P .. ':g', exact(now), c.id)
  else
    over[#over + 1] = c.id
  end
  if state ~= SUCCEEDED then add(standing(c.queue, state), c.n, c.id) end
  q.bytes = q.bytes - c.size
  counted(KEPT, c.kept)
  work = true
  told[#told + 1] = c.id
end

local function replay(c, now)
  local q = queue_by(c.queue)
  drop_body(c.result_where)
  counted(KEPT, -c.kept)
  q.dead, q.bytes = q.dead - 1, q.bytes + c.size
  c.flags = has(c.flags, LATER + KEYED) + REPLAYED
  c.state, c.due, c.ended, c.attempts, c.kept, c.result_size, c.result_where, c.result = WAITING, now, 0, 0, 0, 0, '', ''
  keep(c)
  remove(P .. ':g', c.id)
  remove(standing(c.queue, DEAD), c.id)
  await(c, now)
end

-- Who forgets a call that is no dead one takes it from :e.
local function forget(id)
  local text = record(id)
  local state, flags, n, number = parse(THIN, text)
  local kept, _, where, result_where = parse('>I4I4Bc0Bc0', text, TAKEN_BYTES + 9)
  local q, c = queue_by(number), { id = id, n = n, queue = number, flags = flags }
  if has(flags, KEYED) ~= 0 then
    local _, _, _, _, key = parse(HEADER, entry_of(c))
    call('HDEL', line('k', number), key)
  end
  write_record(id, false)
  gather(entries, stream_of(c), n)
  drop_body(where)
  drop_body(result_where)
  if state == DEAD then
    q.dead = q.dead - 1
    remove(P .. ':g', id)
  elseif state == CANCELLED and has(flags, LATER) == 0 and n > q.cursor then
    q.holes = q.holes - 1
  end
  if state ~= SUCCEEDED then remove(standing(number, state), id) end
  q.calls, q.touched = q.calls - 1, true
  counted(KEPT, -kept)
end
local function end_of(id) return (parse('>d', record(id), TAKEN_BYTES + 1)) end
