-- The batch. Operations follow each other: a letter, the length of what comes after it, its own bytes included.
--   S: a submission   B: several, all or none   F: an end   M: what else there is, its name and values in msgpack
-- The answer has for each `+` (ok), `-` (no), or `=` and the length of its fields, each after its length.
--
-- Redis's Lua hashes each byte of a string that is made, about a nanosecond a byte: what is large is to be made once.

local batch = ARGV[1]
local stored = call('GET', P .. ':m')
if stored then
  layout, meta[SEQ], meta[LINES], meta[TURNS], meta[GROUPS], meta[KEPT] = parse(META, stored)
elseif call('EXISTS', P .. ':queues') == 1 then
  layout = 1
end
if layout ~= LAYOUT then return redis.error_reply(layout < LAYOUT and OLDER or NEWER) end

-- The records of all calls that end are read at once.
local finishing, position = {}, 1
local S, F, B, M = 83, 70, 66, 77
while position <= #batch do
  local length, id
  if byte(batch, position) == F then
    length, id = parse('>I4Bc0', batch, position + 1)
    finishing[#finishing + 1] = id
  else
    length = parse('>I4', batch, position + 1)
  end
  position = position + 1 + length
end
read_records(finishing)

local kinds = {
  [S] = submit_one,
  [F] = finish,
  [B] = function(_, from, to) return submit(submissions_until(batch, from + 4, to), true) end,
  [M] = function(_, from, to)
    local o = cmsgpack.unpack(sub(batch, from + 4, to - 1))
    return operations[o[1]](o)
  end,
}
local answers, last = {}, 0
local function put(bytes)
  last = last + 1
  answers[last] = bytes
end
local function answer(fields)
  if fields == YES then return put('+') end
  if fields == NO then return put('-') end
  local size = 0
  for _, field in ipairs(fields) do size = size + 4 + (field.size or #field) end
  put('=' .. pack('>I4', size))
  for _, field in ipairs(fields) do
    if type(field) == 'table' then  -- calls, in pieces
      put(pack('>I4', field.size))
      for i = 1, #field do put(field[i]) end
    else
      put(pack('>I4', #field))
      put(field)
    end
  end
end
local function go_on()
  while position <= #batch do
    local from = position + 1
    position = from + parse('>I4', batch, from)
    answer(kinds[byte(batch, from - 1)](batch, from, position))
  end
end

position = 1
while position <= #batch do
  local well, why = pcall(go_on)
  -- What an error leaves half done is one call's; counts and lines stay true to what was written.
  if not well then answer({ 'error', type(why) == 'table' and why.err or tostring(why) }) end
end
settle()
return table.concat(answers)
