-- The batch. Operations follow each other: a letter, the length of what comes after it, its own bytes included.
--   S: a submission   B: several, all or none   F: an end   M: what else there is, its name and values in msgpack
-- The answer has for each `+` (ok), `-` (no), or `=` and the length of its fields, each after its length.

local batch = ARGV[1]
local stored = call('GET', P .. ':m')
if stored then
  layout, meta[SEQ], meta[LINES], meta[TURNS], meta[KEPT] = parse(META, stored)
elseif call('EXISTS', P .. ':queues') == 1 then
  layout = 1
end
if layout ~= LAYOUT then return redis.error_reply(layout < LAYOUT and OLDER or NEWER) end

local function carry_out(kind, from, length)
  if kind == 'S' then return submit_one(batch, from) end
  if kind == 'F' then return finish(batch, from) end
  if kind == 'B' then return submit(submissions_until(batch, from + 4, from + length), true) end
  local o = cmsgpack.unpack(sub(batch, from + 4, from + length - 1))
  return operations[o[1]](o)
end

-- The records of all calls that end are read at once.
local finishing, position = {}, 1
while position <= #batch do
  if string.byte(batch, position) ~= 70 then break end
  local _, length, id = parse('>BI4Bc0', batch, position)
  finishing[#finishing + 1] = id
  position = position + 1 + length
end
read_records(finishing)

local answers = {}
position = 1
while position <= #batch do
  local kind, length = sub(batch, position, position), parse('>I4', batch, position + 1)
  local well, fields = pcall(carry_out, kind, position + 1, length)
  position = position + 1 + length
  if not well then
    -- What an error leaves half done is one call's; counts and lines stay true to what was written.
    fields = { 'error', type(fields) == 'table' and fields.err or tostring(fields) }
  end
  if fields == YES then
    answers[#answers + 1] = '+'
  elseif fields == NO then
    answers[#answers + 1] = '-'
  else
    local told, size = {}, 0
    for _, field in ipairs(fields) do
      told[#told + 1], told[#told + 2] = pack('>I4', #field), field
      size = size + 4 + #field
    end
    answers[#answers + 1] = '=' .. pack('>I4', size) .. table.concat(told)
  end
end
settle()
return table.concat(answers)
