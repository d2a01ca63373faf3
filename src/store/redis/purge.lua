-- A purge: takes the next version, records it, makes room, wakes the replicas. `begin.lua` before, `tell.lua` after.
--
-- ARGV[9] for how many microseconds the targets stay in doubt   ARGV[10] 'h', 's', or 'm' for a write under way
-- ARGV[11] how many records are kept   ARGV[12] the longest lifetime of a response, in microseconds
-- ARGV[13] the channel to wake the others by   ARGV[14] the intent, or nothing   ARGV[15] the record for people, or nothing
-- ARGV[16] how many of these are kept   KEYS[4] the journal of them   ARGV[17] the channels to announce it on, a line each
-- ARGV[18] how many targets the intent is resolved for   ARGV[19..] the ids of these, and then of the targets

-- Each purge removes up to this many old records, besides one for each target, so that no purge pays for many.
local STEP = 4
-- Lua can't pass more arguments than some thousands at once.
local CHUNK = 1000
-- Ids of rules begin like this. A purge that names rules reaches all responses that do not carry them.
local RULES = '\255\255\255'

local RESOLVED = 19
local FIRST = RESOLVED + ARGV[18]
local room = STEP + #ARGV - FIRST + 1
local in_doubt = tonumber(ARGV[9])
local kind, suffix = ARGV[10], ''
if kind == 'm' then
  suffix = ARGV[14]
elseif in_doubt > 0 then
  kind = 'd'
end

raise(math.max(now, high + 1))
version = high

local ids = {}
for at = FIRST, #ARGV do ids[#ids + 1] = ARGV[at] end

for from = 1, #ids, CHUNK do
  local places, dates = {}, {}
  for at = from, math.min(from + CHUNK - 1, #ids) do
    local name = ids[at] .. suffix
    places[#places + 1] = whole(version)
    places[#places + 1] = kind .. name
    dates[#dates + 1] = whole(-(now + in_doubt))
    dates[#dates + 1] = 'u' .. name
  end
  redis.call('ZADD', index, 'GT', unpack(places))
  if kind == 'd' or kind == 'm' then redis.call('ZADD', index, 'LT', unpack(dates)) end
end

-- The write is over: its end is told like a purge, and kept until nobody can hold the intent for valid.
if FIRST > RESOLVED then
  local last = 0
  local function resolve(id)
    local name = id .. ARGV[14]
    last = math.min(last, tonumber(redis.call('ZSCORE', index, 'u' .. name) or 0))
    redis.call('ZREM', index, 'm' .. name, 'u' .. name)
  end
  for at = RESOLVED, FIRST - 1 do resolve(ARGV[at]) end
  if last < 0 then
    redis.call('ZADD', index, whole(version), 'l' .. ARGV[14], exact(last / 1048576), 'x' .. ARGV[14])
  end
end

local function drop(member)
  local kind, rest = string.sub(member, 1, 1), string.sub(member, 2)
  redis.call('ZREM', index, member, DATED[kind] and 'u' .. rest or '', kind == 'l' and 'x' .. rest or '')
end

local past = redis.call('ZREVRANGEBYSCORE', index, -100000000, exact(-now / 1048576), 'LIMIT', 0, room)
for _, member in ipairs(past) do drop('l' .. string.sub(member, 2)) end

-- No response lives as long as what is this old.
local outlived = now - ARGV[12]
for _, member in ipairs(redis.call('ZRANGEBYSCORE', index, 1, whole(outlived), 'LIMIT', 0, room)) do
  local date = until_of(member)
  if not date or -date < outlived then
    drop(member)
    if string.sub(member, 1, 1) == 'b' then redis.call('ZINCRBY', index, 1, 'n') end
  end
end

-- Below zero is all that has no version; then the buckets, then the records by version.
local below = redis.call('ZCOUNT', index, '-inf', '(0') - redis.call('ZSCORE', index, 'n') - 1
local surplus = math.min(redis.call('ZCARD', index) - below - ARGV[11], room, CHUNK)
if surplus > 0 then
  local oldest = redis.call('ZRANGE', index, below, below + surplus - 1, 'WITHSCORES')
  local new = 0
  for at = 1, #oldest, 2 do
    local member, folded = oldest[at], string.sub(oldest[at], 2, 3)
    local kind = string.sub(member, 1, 1)
    if kind ~= 'b' then
      local date = kind ~= 'l' and until_of(member)
      if kind ~= 'l' and string.sub(member, 2, 4) == RULES then
        -- They reach everything but their own, and so does what is left of them.
        folded = ARGV[8]
        redis.call('ZADD', index, 'GT', oldest[at + 1], (date and 'd' or 'h') .. folded)
      elseif kind ~= 'l' then
        new = new + redis.call('ZADD', index, 'GT', oldest[at + 1], 'b' .. folded)
      end
      if date then redis.call('ZADD', index, 'LT', date, 'u' .. folded) end
      drop(member)
    end
  end
  if new > 0 then redis.call('ZINCRBY', index, -new, 'n') end
end

-- Replicas of the former release purge the same, while there are any.
local function tell_former()
  if not KEYS[2] then
    redis.call('ZADD', index, -0.0625, 'y')
    return
  end
  local its_high = redis.call('ZSCORE', KEYS[2], 'w')
  if not its_high then return end
  if not former_replicas()[1] then return forget_former() end
  its_high = math.max(now, -its_high + 1)
  redis.call('ZADD', KEYS[2], whole(-its_high), 'w')
  redis.call('ZADD', index, whole(-its_high), 'z')
  for at = RESOLVED, FIRST - 1 do redis.call('ZREM', KEYS[2], 'm' .. ARGV[at] .. ARGV[14]) end
  for _, id in ipairs(ids) do
    redis.call('ZADD', KEYS[2], 'GT', whole(its_high + in_doubt), ARGV[10] .. id .. suffix)
  end
end
tell_former()

-- Nothing depends on the record. Should the clock have stepped back, the version is no id that may come next.
if ARGV[15] ~= '' and KEYS[4] then
  local function add(id)
    return redis.pcall('XADD', KEYS[4], 'MAXLEN', '~', ARGV[16], id,
      'position', whole(version), 'at', whole(now), 'record', ARGV[15])
  end
  if type(add(whole(version) .. '-0')) == 'table' then add('*') end
  renew(KEYS[4])
  if ARGV[17] ~= '' then
    local record = string.format('{"position":%d,"at":%d,', version, now) .. string.sub(ARGV[15], 2)
    for channel in string.gmatch(ARGV[17], '[^\n]+') do redis.pcall('PUBLISH', channel, record) end
  end
end

-- A hint only: whoever may not publish purges all the same.
redis.pcall('PUBLISH', ARGV[13], whole(version))
