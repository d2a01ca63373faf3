-- A purge: takes the next position, records it, makes room, wakes the replicas. `begin.lua` before, `tell.lua` after.
--
-- ARGV[5] for how many microseconds the targets stay in doubt   ARGV[6] 'h', 's', or 'm' to mark them only
-- ARGV[7] how many records are kept   ARGV[8] the longest lifetime of a response, in microseconds
-- ARGV[9] the channel to wake the others by   ARGV[10] the id of everything   ARGV[11] the id of the mark, or nothing
-- ARGV[12] the record for people, or nothing   ARGV[13] how many of these are kept   KEYS[2] the journal of them
-- ARGV[14] the channel to announce it on, or nothing   ARGV[15] how many marked targets it is lifted from
-- ARGV[16..] the ids of these, and then of the targets

-- More than this many targets in doubt at once, and everything is.
local MOST_IN_DOUBT = 10000
-- So many records leave with each purge, besides one for each target, and no purge pays for many.
local STEP = 4
-- Lua can't pass more arguments than some thousands at once. The caller names no more targets than this either.
local CHUNK = 1000

local LIFTED = 16
local FIRST = LIFTED + ARGV[15]
local targets = #ARGV - FIRST + 1
local suffix = ARGV[6] == 'm' and ARGV[11] or ''

position = math.max(now, high + 1)
raise(position)
local dated = position + ARGV[5]

local function record(ids)
  for from = 1, #ids, CHUNK do
    local places = {}
    for at = from, math.min(from + CHUNK - 1, #ids) do
      places[#places + 1] = whole(dated)
      places[#places + 1] = ARGV[6] .. ids[at] .. suffix
    end
    redis.call('ZADD', index, 'GT', unpack(places))
  end
end

local ids = {}
for at = FIRST, #ARGV do ids[#ids + 1] = ARGV[at] end
if dated > position and redis.call('ZCOUNT', index, '(' .. whole(high), '+inf') + #ids > MOST_IN_DOUBT then
  ids = { ARGV[10] }
end
record(ids)

-- The purge is there, so the doubt is over. Where too much was in doubt, everything was marked.
if FIRST > LIFTED then
  redis.call('ZREM', index, 'm' .. ARGV[10] .. ARGV[11])
  for at = LIFTED, FIRST - 1 do redis.call('ZREM', index, 'm' .. ARGV[at] .. ARGV[11]) end
end

-- No response lives as long as what is this old.
local outlived = redis.call('ZRANGEBYSCORE', index, 1, whole(now - ARGV[8]), 'LIMIT', 0, STEP + targets)
for _, member in ipairs(outlived) do
  redis.call('ZREM', index, member)
  if string.sub(member, 1, 1) == 'b' then redis.call('ZINCRBY', index, 1, 'n') end
end

-- The four marks come first, then the buckets, then the records by position; so the oldest record's rank is known.
-- A record in doubt is not folded.
local first = 4 - redis.call('ZSCORE', index, 'n') - 1
local surplus = redis.call('ZCARD', index) - first - ARGV[7]
surplus = math.min(surplus, STEP + targets, CHUNK)
if surplus > 0 then
  local oldest = redis.call('ZRANGE', index, first, first + surplus - 1, 'WITHSCORES')
  local new = 0
  for at = 1, #oldest, 2 do
    local member, place = oldest[at], tonumber(oldest[at + 1])
    if place > high then break end
    if string.sub(member, 1, 1) ~= 'b' then
      new = new + redis.call('ZADD', index, 'GT', whole(place), 'b' .. string.sub(member, 2, 3))
      redis.call('ZREM', index, member)
    end
  end
  if new > 0 then redis.call('ZINCRBY', index, -new, 'n') end
end

-- Nothing depends on the record. Should the clock have stepped back, the position is no id that may come next.
if ARGV[12] ~= '' then
  local function tell(id)
    return redis.pcall('XADD', KEYS[2], 'MAXLEN', '~', ARGV[13], id,
      'position', whole(position), 'at', whole(now), 'record', ARGV[12])
  end
  if type(tell(whole(position) .. '-0')) == 'table' then tell('*') end
  if ARGV[14] ~= '' then
    local record = string.format('{"position":%d,"at":%d,', position, now) .. string.sub(ARGV[12], 2)
    redis.pcall('PUBLISH', ARGV[14], record)
  end
end

-- A hint only: whoever may not publish purges all the same.
redis.pcall('PUBLISH', ARGV[9], whole(position))
