-- The first part of every script on the purge index: the marks, or a new epoch; and the caller's place on the roll.
--
-- KEYS[1] the index, the only key that a script needs   KEYS[2] the index of the former release, and KEYS[3] its roll;
-- both are left out while a cluster moves the slot
-- ARGV[1] a random id, never used twice: the reply repeats it, and a new epoch is named by it
-- ARGV[2] the epoch that the caller knows   ARGV[3] up to which version it knows it
-- ARGV[4] how many records one reply has
-- ARGV[5] the id of the caller's process, 8 bytes   ARGV[6] for how many microseconds it is trusted without a reply, and
-- when it started, 16 digits each, and its name; or nothing: it is not on the roll
-- ARGV[7] '1' to report on the roll now   ARGV[8] the target that all responses have
--
-- The index is one sorted set, so that it is evicted as a whole or not at all. Its members:
--   h<id> s<id>     the last hard and the last soft purge of a target, by version
--   d<id>           the last purge that left a target in doubt, by version
--   m<id><intent>   a target of a write under way, by the version of the intent
--   l<intent>       a write that is over, by the version of its end
--   b<2 bytes>      a bucket: the highest version that was folded into it
--   u<...>          until when the d, m or b member with the same rest is in doubt, negated
--   x<intent>       until when the l member is kept, negated, in 2^20 microseconds
--   r<process><...> a replica: when it reported, negated, in 2^30 microseconds
--   k<process>      up to which version it knew all purges then, and one, negated
--   i<id> the epoch at -0.5   o<ids> its owner at -0.25   c its beginning, negated   w the high-water mark, negated
--   n               the number of buckets and one, negated
--   a<id>           the epoch of the former release's index, at -0.03125   z   up to where it was imported, negated
--   y               a purge that the former release's index was not told of, at -0.0625
-- Versions and dates are in microseconds; divided by a power of two they are exact.

-- Nothing is called so, but that is a write: Redis refuses it on a replica and on a primary cut off from its replicas,
-- and allows the writes after it when memory is full.
redis.call('ZREM', KEYS[1], '')

-- A replica reports at least this often, in microseconds.
local REPORT_INTERVAL = 500000
local HOUR = 3600000000

local index = KEYS[1]
local function whole(number) return string.format('%d', number) end
local function exact(number) return string.format('%.17g', number) end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- Another server, or the same one after a restart or a promotion, may have lost the last purges.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or ''
local before = string.match(redis.call('INFO', 'replication'), 'master_replid2:(%w+)') or ''
if run == '' then return redis.error_reply('NORUNID the server reports no run_id in INFO, so its restarts would go unseen') end
local owner = 'o' .. run .. before

local epoch = redis.call('ZRANGEBYSCORE', index, -0.5, -0.5)[1]
local high = redis.call('ZSCORE', index, 'w')
local known = tonumber(ARGV[3])
if epoch ~= 'i' .. ARGV[2] then known = 0 end

local is_new = not epoch or not high or not redis.call('ZSCORE', index, owner) or known > -high
if is_new then
  redis.call('UNLINK', index)
  epoch = 'i' .. ARGV[1]
  -- Purges from before the epoch are not known. A fetch that may be as stale as from then on (`settle`) began too early.
  redis.call('ZADD', index, -0.5, epoch, -0.25, owner, whole(-now), 'w', whole(-now), 'c', -1, 'n',
    whole(now), 'h' .. ARGV[8])
  high = now
  known = 0
else
  high = -high
end

local function raise(version)
  high = version
  redis.call('ZADD', index, whole(-high), 'w')
end

local DATED = { d = true, m = true, b = true }
local function until_of(member)
  return DATED[string.sub(member, 1, 1)] and redis.call('ZSCORE', index, 'u' .. string.sub(member, 2))
end

-- A namespace that nobody uses any more leaves nothing: this key ends 30 days after its last use.
local DAY = 86400000
local function renew(key)
  local left = redis.pcall('PTTL', key)
  -- Once a day: each renewal is replicated.
  if type(left) == 'number' and left < 29 * DAY then redis.pcall('PEXPIRE', key, 30 * DAY) end
end

-- The index has no end where memory is bounded and all keys with an end may be evicted: it must not be.
local function renew_index()
  local memory = redis.pcall('INFO', 'memory')
  memory = type(memory) == 'string' and memory or ''
  local limit = string.match(memory, 'maxmemory:(%d+)')
  if not limit or limit ~= '0' and string.find(memory, 'maxmemory_policy:volatile', 1, true) then
    redis.pcall('PERSIST', index)
  else
    renew(index)
  end
end

-- All that are on the roll.
local function roll() return redis.call('ZRANGEBYSCORE', index, -10000000, -1000000, 'WITHSCORES') end

-- Reports of the caller: it knew all purges up to `known`.
local function report()
  local place = 'r' .. ARGV[5] .. ARGV[6]
  local seen = redis.call('ZSCORE', index, place)
  local age = seen and now + seen * 1073741824
  if age and age >= 0 and age < REPORT_INTERVAL and ARGV[7] ~= '1' then return end
  -- Once an hour, and in place of the end that the last replica that left has set.
  if not seen or math.floor(now / HOUR) ~= math.floor(-seen * 1073741824 / HOUR) then renew_index() end
  if not seen then
    local all = roll()
    for at = 1, #all, 2 do
      if string.sub(all[at], 2, 9) == ARGV[5] then redis.call('ZREM', index, all[at]) end
    end
  end
  redis.call('ZADD', index, exact(-now / 1073741824), place, whole(-known - 1), 'k' .. ARGV[5])
end

-- The former release has an index of its own, with dates in the future for what is in doubt. Purges of its replicas are
-- repeated here, by the same ids; those that can't be told apart purge everything.
local function import()
  local its_epoch = redis.call('ZRANGEBYSCORE', KEYS[2], -0.5, -0.5)[1]
  local its_high = its_epoch and redis.call('ZSCORE', KEYS[2], 'w')
  local mark = redis.call('ZRANGEBYSCORE', index, -0.03125, -0.03125)[1]
  if not mark and not its_high then return end
  local everything = ARGV[8]
  local new = {}
  local from = redis.call('ZSCORE', index, 'z')
  if not its_high then
    redis.call('ZREM', index, mark, 'z')
    new[1] = 'h' .. everything
  else
    if mark ~= 'a' .. string.sub(its_epoch, 2) then
      if mark then redis.call('ZREM', index, mark) end
      redis.call('ZADD', index, -0.03125, 'a' .. string.sub(its_epoch, 2))
      from = its_high
      if not is_new then new[1] = 'h' .. everything end
    end
    local records = redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. whole(-from), '+inf', 'WITHSCORES')
    for at = 1, #records, 2 do
      local member, place = records[at], tonumber(records[at + 1])
      local kind, id = string.sub(member, 1, 1), string.sub(member, 2, 9)
      if kind == 'b' then
        new[#new + 1] = 'h' .. everything
      elseif place <= now then
        new[#new + 1] = 'h' .. id
      elseif kind ~= 'm' or not redis.call('ZSCORE', index, member) then
        local date = redis.call('ZSCORE', index, 'u' .. id)
        if not date or place > -date then
          redis.call('ZADD', index, whole(-place), 'u' .. id)
          new[#new + 1] = 'd' .. id
        end
      end
    end
    redis.call('ZADD', index, its_high, 'z')
  end
  if new[1] then raise(math.max(now, high + 1)) end
  for _, member in ipairs(new) do redis.call('ZADD', index, 'GT', whole(high), member) end
end

-- The names of its replicas that are live, each with how long it has been silent.
local function former_replicas()
  local all = redis.pcall('HGETALL', KEYS[3])
  local live = {}
  for at = 2, #all, 2 do
    local seen, lasts = string.match(all[at], '^%d+ (%d+) (%d+) %x+$')
    if seen and now - seen <= tonumber(lasts) then live[#live + 1] = { all[at - 1], math.max(0, now - seen) } end
  end
  return live
end

local function forget_former()
  redis.call('UNLINK', KEYS[2])
  local mark = redis.call('ZRANGEBYSCORE', index, -0.03125, -0.03125)[1]
  if mark then redis.call('ZREM', index, mark, 'z') end
end

if KEYS[2] then
  import()
  if redis.call('ZSCORE', index, 'y') then
    forget_former()
    redis.call('ZREM', index, 'y')
  end
end

if ARGV[6] ~= '' then report() end

local version = 0
