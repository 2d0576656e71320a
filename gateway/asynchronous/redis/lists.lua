-- What is looked at, and what time asks for.

local LOOKED_AT = 1000  -- calls that a page passes over in one run
local AHEAD_S = 60  -- gateways' clocks agree within some seconds

function operations.get(o)
  local c, out = found(o[2]), { size = 0 }
  if c then show(out, c, true) end
  return { 'ok', out }
end

-- Sources of calls, the newest first: each gives the next one below `top`, as a call, or as no more than { n } where it has
-- passed over enough others in this run: so each comes on by ten at least, and a page to its end.

local sources = {}
local function of_stream(kind, number, floor, wanted)
  local passed = 0
  return function(top)
    while passed < max(10, LOOKED_AT / #sources) do
      local entry = call('XREVRANGE', line(kind, number), '(' .. top .. '-0', '(' .. floor .. '-0', 'COUNT', 1)[1]
      if not entry then return nil end
      top = tonumber(sub(entry[1], 1, -3))
      local id = entry[2][1]
      if not wanted or wanted[byte(record(id))] then return { n = top, id = id, entry = entry[2][2] } end
      passed = passed + 1
    end
    return { n = top }
  end
end
local function of_zset(set)
  apply(set)
  return function(top)
    local found = call('ZREVRANGEBYSCORE', set, '(' .. top, '-inf', 'WITHSCORES', 'LIMIT', 0, 1)
    return found[1] and { n = tonumber(found[2]), id = found[1] } or nil
  end
end
-- Calls that run under a lease of a group.
local function running_of(group)
  local ids, running = {}, {}
  for id in string.gmatch(call('HGET', HELD_BY, group), '%S+') do ids[#ids + 1] = id end
  read_records(ids)
  for _, id in ipairs(ids) do
    local text = record(id)
    if text and byte(text) == RUNNING and parse('>d', text, TAKEN_BYTES + 1) == group then running[#running + 1] = id end
  end
  return running
end
local function of_running(number)
  local running, next_one = {}, 0
  apply_leases()
  for _, group in ipairs(call('ZRANGE', LEASES, 0, -1)) do
    for _, id in ipairs(running_of(tonumber(group))) do
      local _, _, n, queue = parse(THIN, record(id))
      if not number or queue == number then running[#running + 1] = { n = n, id = id } end
    end
  end
  table.sort(running, function(a, b) return a.n > b.n end)
  return function(top)
    repeat next_one = next_one + 1 until not running[next_one] or running[next_one].n < top
    return running[next_one]
  end
end

-- Those of calls that have succeeded are found in the streams, of which they are the most; of other states there are lists.
local function find_sources(numbers, one_queue, states)
  local wanted, any = {}, #states == 0
  for _, state in ipairs(states) do wanted[state] = true end
  local function also(source) sources[#sources + 1] = source end
  for _, number in ipairs(numbers) do
    local q = queue_by(number)
    if any or wanted[SUCCEEDED] then
      also(of_stream('s', number, 0, not any and wanted))
      also(of_stream('d', number, 0, not any and wanted))
    else
      if wanted[WAITING] then
        if q.fresh > 0 then also(of_stream('s', number, q.cursor, { [WAITING] = true })) end
        also(of_zset(standing(number, WAITING)))
      end
      if wanted[DEAD] then also(of_zset(standing(number, DEAD))) end
      if wanted[CANCELLED] then also(of_zset(standing(number, CANCELLED))) end
    end
  end
  if wanted[RUNNING] and not wanted[SUCCEEDED] then also(of_running(one_queue)) end
end

-- queue or '', states, how many, before which call or '', before which number or 0 → '' or the number to go on before, calls
function operations.page(o)
  local top, numbers, one_queue, left = meta[SEQ] + 1, {}, nil, o[4]
  if o[6] > 0 then
    top = o[6]
  elseif o[5] ~= '' then
    local text, _ = record(o[5]), nil
    if not text then return { 'ok', '', '' } end
    _, _, top = parse(THIN, text)
  end
  if o[2] == '' then
    for _, number in ipairs(call('HVALS', P .. ':names')) do numbers[#numbers + 1] = tonumber(number) end
  else
    one_queue = number_of(o[2])
    if not one_queue then return { 'ok', '', '' } end
    numbers[1] = one_queue
  end
  local heads, out, on = {}, { size = 0 }, ''
  sources = {}
  find_sources(numbers, one_queue, o[3])
  for _, source in ipairs(sources) do
    local head = source(top)
    if head then
      head.source = source
      heads[#heads + 1] = head
    end
  end
  -- Each gives its newest first: one whose newest is not among the first `left` gives nothing to this page.
  table.sort(heads, function(a, b) return a.n > b.n end)
  while #heads > left do heads[#heads] = nil end
  while left > 0 and #heads > 0 do
    local best = 1
    for i, head in ipairs(heads) do if head.n > heads[best].n then best = i end end
    local head = heads[best]
    if not head.id then
      on = exact(head.n)
      break
    end
    local c = found(head.id)
    c.entry = head.entry or c.entry
    show(out, c, false)
    left = left - 1
    local next_one = head.source(head.n)
    if next_one then
      next_one.source = head.source
      heads[best] = next_one
    else
      table.remove(heads, best)
    end
  end
  return { 'ok', on, out }
end

-- When the first call of a queue's stream that waits was due, or, with very many holes before it, one of those.
local function first_due(q)
  local first, passed, holes, due = fresh_of(q, 1)
  if holes > 0 and not first[1] then q.cursor, q.holes, q.touched = passed, q.holes - holes, true end
  return due
end

function operations.depths(o)
  local out, now, found = { 'ok' }, o[2], call('HGETALL', P .. ':q')
  for i = 1, #found, 2 do
    local number = tonumber(found[i])
    local q = queues[number] or queue_from(number, found[i + 1])
    if q.waiting > 0 or q.running > 0 or q.dead > 0 then
      local due, oldest = q.fresh, '0'
      if due > 0 then oldest = exact(min(now, first_due(q))) end
      if q.waiting > q.fresh then
        local set = apply(line('w', number))
        local first = call('ZRANGE', set, 0, 0, 'WITHSCORES')[2]
        if tonumber(first) <= now then
          if q.fresh == 0 or tonumber(first) < tonumber(oldest) then oldest = first end
          due = due + call('ZCOUNT', set, '-inf', now)
        end
      end
      local counts = { exact(q.waiting), exact(q.running), exact(q.dead), exact(q.bytes), oldest, exact(due) }
      out[#out + 1] = q.name
      for i = 1, #counts do out[#out + 1] = counts[i] end
    end
  end
  return out
end

-- now, seconds that ended calls are kept, dead ones, bytes of both
function operations.sweep(o)
  local now, dead, list = o[2], P .. ':g', P .. ':e'
  if call('EXISTS', P .. ':queues') == 1 then return { 'older' } end
  apply_leases()
  local over_due = 0
  for _, group in ipairs(call('ZRANGEBYSCORE', LEASES, '-inf', now * 1000, 'LIMIT', 0, SWEPT_AT_ONCE)) do
    if over_due < SWEPT_AT_ONCE then
      for _, id in ipairs(running_of(tonumber(group))) do
        local c = found(id)
        c.due, over_due = now, over_due + 1
        wait_again(c, now)
      end
    end
  end
  local gone = 0
  -- Forget the oldest of what is listed while `so`.
  local function forget_first(ids, so)
    local count = 0
    read_records(ids)
    for _, id in ipairs(ids) do
      if gone >= SWEPT_AT_ONCE or not so(id) then break end
      forget(id)
      gone, count = gone + 1, count + 1
    end
    return count
  end
  local function forget_listed(so)
    local first = call('LINDEX', list, 0)
    if not first or not so(first) then return end
    local count = forget_first(call('LRANGE', list, 0, SWEPT_AT_ONCE - gone - 1), so)
    if count > 0 then call('LTRIM', list, count, -1) end
  end
  -- Calls that ended by a clock that was far ahead do not hold up those behind them.
  local ahead, first = {}, call('LINDEX', list, 0)
  if first and end_of(first) > now + AHEAD_S then
    local ids = call('LRANGE', list, 0, SWEPT_AT_ONCE - 1)
    read_records(ids)
    while ids[#ahead + 1] and end_of(ids[#ahead + 1]) > now + AHEAD_S do ahead[#ahead + 1] = ids[#ahead + 1] end
    call('LTRIM', list, #ahead, -1)
    in_pieces('RPUSH', list, ahead)
  end
  forget_listed(function(id) return end_of(id) <= now - o[3] end)
  forget_first(call('ZRANGEBYSCORE', apply(dead), '-inf', now - o[4], 'LIMIT', 0, SWEPT_AT_ONCE), function() return true end)
  if gone == 0 and meta[KEPT] > o[5] then
    local function so() return meta[KEPT] > o[5] end
    forget_listed(so)
    forget_first(call('ZRANGE', apply(dead), 0, SWEPT_AT_ONCE - 1), so)
  end
  local more = over_due >= SWEPT_AT_ONCE or gone >= SWEPT_AT_ONCE
  return { 'ok', more and '1' or '', over_due > 0 and '1' or '' }
end

function operations.next_due(_)
  local first = call('ZRANGE', P .. ':due', 0, 0, 'WITHSCORES')
  return { 'ok', first[2] }
end
