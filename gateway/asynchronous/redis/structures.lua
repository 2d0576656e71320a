-- The store in Redis. One run does a batch of operations, one after the other; a run is one step: all of it is seen, and is in
-- the append-only file, or none. The files are joined in this order: structures, calls, operations, lists, run.
--
-- KEYS[1] is the store's name in braces, the hash tag: all keys begin with it, so that a cluster has them in one slot.
--   :m          what counts for all: number of this layout, last call, last queue, turns of queues, last group of leases, bytes of
--               ended calls
--   :names :q   hashes: queue → its number Q; Q → its name, counts, how far it was taken, when it was served last
--   :s:Q :d:Q   streams: calls that were due when they were submitted, and those that were to wait; the entry of call N is N-0,
--               its field is the call's id, its value what was submitted. They stay until the call is forgotten
--   :c          hash: id → where a call stands
--   :w:Q :n:Q:0 zsets: calls that wait for a time (delayed, tried again, given back, replayed) by due, and by N
--   :n:Q:3 :n:Q:4  zsets: dead and cancelled calls by N
--   :due        zset: Q by when its first call is due; 0 where one of the stream's is
--   :k:Q        hash: idempotency key → call
--   :l :h :r    leases that end together are a group: zset of groups by their end in milliseconds; hashes of the calls that each
--               was made for, and of how many still run under it: with the last one it goes
--   :e :g       list of succeeded and cancelled calls in the order in which they ended; zset of dead ones by their end
--   :b:WHERE    a body that is longer than what is kept with its call
--
-- A queue's `cursor` is the last call of :s:Q that was taken. What is above it waits, in its order, and needs nothing but its
-- entry and 12 bytes in :c. Cancelled calls above it are `holes`, which a take passes over.
local P = KEYS[1]
local call, pack, parse, unpacked = redis.call, struct.pack, struct.unpack, unpack
local byte, sub, min, max = string.byte, string.sub, math.min, math.max
local WAITING, RUNNING, SUCCEEDED, DEAD, CANCELLED = 0, 1, 2, 3, 4
local LAYOUT, META = 3, '>I4ddddd'
local OLDER, NEWER = 'OLDER calls of another layout are kept', 'NEWER calls of another layout are kept'
local ARGUMENTS = 2000  -- of one command: Lua's stack has 8,000 places

-- A time as text, exactly; of a run's calls most have the same few.
local texts = {}
local function exact(time)
  local text = texts[time] or string.format('%.17g', time)
  texts[time] = text
  return text
end
local function line(kind, queue) return P .. ':' .. kind .. ':' .. queue end
local function standing(queue, state) return P .. ':n:' .. queue .. ':' .. state end
local function body_key(where) return P .. ':b:' .. where end

local function in_pieces(command, key, list)
  for i = 1, #list, ARGUMENTS do call(command, key, unpacked(list, i, min(i + ARGUMENTS - 1, #list))) end
end

-- What counts for all

local layout, meta, meta_changed = LAYOUT, { 0, 0, 0, 0, 0 }, false
local SEQ, LINES, TURNS, GROUPS, KEPT = 1, 2, 3, 4, 5
local function counted(which, by)
  meta[which], meta_changed = meta[which] + by, true
  return meta[which]
end

-- Queues are read once and written once, in `settle`.

local QUEUE = '>dddddddddI2c0'
local queues, numbers = {}, {}
local function number_of(name)
  if numbers[name] == nil then numbers[name] = tonumber(call('HGET', P .. ':names', name) or nil) or false end
  return numbers[name]
end
local function queue_from(number, text)
  local q = { number = number, stream = line('s', number) }
  q.waiting, q.running, q.dead, q.bytes, q.calls, q.fresh, q.holes, q.cursor, q.turn, q.name = parse(QUEUE, text)
  q.had_fresh = q.fresh > 0
  queues[number] = q
  return q
end
local function read_queues(list)
  for i = 1, #list, ARGUMENTS do
    local found = call('HMGET', P .. ':q', unpacked(list, i, min(i + ARGUMENTS - 1, #list)))
    for j = 1, #found do
      local number = tonumber(list[i + j - 1])
      if not queues[number] then queue_from(number, found[j]) end
    end
  end
end
local function queue_by(number) return queues[number] or queue_from(number, call('HGET', P .. ':q', number)) end
local function queue_made(name)
  local number = number_of(name)
  if number then return queue_by(number) end
  number = counted(LINES, 1)
  call('HSET', P .. ':names', name, number)
  numbers[name] = number
  queues[number] = {
    number = number, name = name, stream = line('s', number), waiting = 0, running = 0, dead = 0, bytes = 0, calls = 0,
    fresh = 0, holes = 0, cursor = 0, turn = counted(TURNS, 1), had_fresh = false,
  }
  return queues[number]
end

-- Changes are gathered, and made at once for all calls of a run: those of a sorted set before it is read.

local sets, entries, places, over = {}, {}, {}, {}
local function add(set, score, name)
  local changes = sets[set] or {}
  sets[set] = changes
  changes[name] = score
end
local function remove(set, name) add(set, false, name) end
local function apply(set)
  local added, removed = {}, {}
  for name, score in pairs(sets[set] or {}) do
    if score then added[#added + 1], added[#added + 2] = score, name else removed[#removed + 1] = name end
  end
  sets[set] = nil
  in_pieces('ZREM', set, removed)
  in_pieces('ZADD', set, added)
  return set
end
local function gather(lists, key, name)
  local list = lists[key] or {}
  lists[key] = list
  list[#list + 1] = name
end

-- Records: where each call stands, read once and written once.

local C = P .. ':c'
local records, written = {}, {}
local function record(id)
  local found = records[id]
  if found == nil then
    found = call('HGET', C, id)
    records[id] = found
  end
  return found
end
local function read_records(ids)
  for i = 1, #ids, ARGUMENTS do
    local found = call('HMGET', C, unpacked(ids, i, min(i + ARGUMENTS - 1, #ids)))
    for j = 1, #found do
      local id = ids[i + j - 1]
      if records[id] == nil then records[id] = found[j] end
    end
  end
end
local function write_record(id, text)
  records[id] = text
  written[#written + 1] = id
end

-- Leases: most of a take begin and end with each other, and a change of a sorted set for each would be a tenth of a call's time.

local LEASES, HELD_BY, HELD = P .. ':l', P .. ':h', P .. ':r'
local groups, left = {}, {}
-- The group of a call whose lease ends then.
local function lease(id, time)
  local ends = math.ceil(time * 1000)
  local group = groups[ends]
  if not group then
    group = { number = counted(GROUPS, 1) }
    groups[ends] = group
  end
  group[#group + 1] = id
  return group.number
end
local function leave(group) left[group] = (left[group] or 0) + 1 end
local function apply_leases()
  for ends, group in pairs(groups) do
    call('ZADD', LEASES, ends, group.number)
    call('HSET', HELD_BY, group.number, table.concat(group, ' '))
    call('HSET', HELD, group.number, #group)
  end
  for group, count in pairs(left) do
    if call('HINCRBY', HELD, group, -count) <= 0 then
      call('ZREM', LEASES, group)
      call('HDEL', HELD_BY, group)
      call('HDEL', HELD, group)
    end
  end
  groups, left = {}, {}
end

-- What gateways hear, after the name of who did it: whether there may be something to take, and which calls have ended.
local work, told = false, {}

-- Returns what is kept of it.
local function settle_queue(q)
  local number = q.number
  if q.calls <= 0 then
    local own = { q.stream, line('d', number), line('w', number), line('k', number) }
    for _, state in ipairs({ WAITING, DEAD, CANCELLED }) do own[#own + 1] = standing(number, state) end
    for i = 1, #own do sets[own[i]], entries[own[i]] = nil, nil end
    call('DEL', unpacked(own))
    call('HDEL', P .. ':names', q.name)
    call('HDEL', P .. ':q', number)
    call('ZREM', P .. ':due', number)
    return nil
  end
  if q.fresh > 0 then
    if not q.had_fresh then call('ZADD', P .. ':due', 0, number) end
  elseif q.moved or q.had_fresh then
    local first = call('ZRANGE', apply(line('w', number)), 0, 0, 'WITHSCORES')
    if first[2] then call('ZADD', P .. ':due', first[2], number) else call('ZREM', P .. ':due', number) end
  end
  return pack(QUEUE, q.waiting, q.running, q.dead, q.bytes, q.calls, q.fresh, q.holes, q.cursor, q.turn, #q.name, q.name)
end

local function settle()
  local kept, gone = {}, {}
  for i = 1, #written do
    local id = written[i]
    local text = records[id]
    if text then kept[#kept + 1], kept[#kept + 2] = id, text else gone[#gone + 1] = id end
  end
  in_pieces('HSET', C, kept)
  in_pieces('HDEL', C, gone)
  local lines = {}
  for number, q in pairs(queues) do
    local text = q.touched and settle_queue(q)
    if text then lines[#lines + 1], lines[#lines + 2] = number, text end
  end
  in_pieces('HSET', P .. ':q', lines)
  for set in pairs(sets) do apply(set) end
  apply_leases()
  for stream, list in pairs(entries) do in_pieces('XDEL', stream, list) end
  for i = 1, #places do call('UNLINK', places[i]) end
  in_pieces('RPUSH', P .. ':e', over)
  if work or #told > 0 then call('PUBLISH', P .. ':news', (work and 'w' or 'e') .. ARGV[2] .. ' ' .. table.concat(told, ' ')) end
  if meta_changed then call('SET', P .. ':m', pack(META, LAYOUT, unpacked(meta))) end
end
