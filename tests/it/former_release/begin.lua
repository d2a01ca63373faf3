-- The first part of every script on the purge index: the marks, or a new incarnation.
--
-- KEYS[1] the index: the only key, but for the record of a purge, so that a cluster never has one here and another there
-- while it moves the slot
-- ARGV[1] a random id, never used twice: the reply repeats it, and a new incarnation is named by it
-- ARGV[2] the incarnation that the caller knows   ARGV[3] up to which position it knows it
--
-- The index is one sorted set, so that it is evicted as a whole or not at all. Its members:
--   h<id> s<id>  a target's last hard and last soft purge, by position
--   m<id><mark>  a target of a write that is under way, by the date at which that may be over
--   b<2 bytes>   a bucket, by the highest position that was folded into it
--   i<id>        the incarnation, at a score of -0.5      o<ids>  its owner, at -0.25
--   w            the high-water mark, negated             n       the number of buckets and one, negated

-- Nothing is called so, but that is a write: Redis refuses it on a replica and on a primary cut off from its replicas,
-- and allows the writes after it when memory is full.
redis.call('ZREM', KEYS[1], '')

local index = KEYS[1]
local function whole(number) return string.format('%d', number) end

local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

-- Another server, or the same one after a restart or a promotion, may have lost the last purges.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)') or ''
local before = string.match(redis.call('INFO', 'replication'), 'master_replid2:(%w+)') or ''
local owner = 'o' .. run .. before

local incarnation = redis.call('ZRANGEBYSCORE', index, -0.5, -0.5)[1]
local high = redis.call('ZSCORE', index, 'w')
local known = tonumber(ARGV[3])
if incarnation ~= 'i' .. ARGV[2] then known = 0 end

if not incarnation or not high or not redis.call('ZSCORE', index, owner) or known > -high then
  redis.call('UNLINK', index)
  incarnation = 'i' .. ARGV[1]
  redis.call('ZADD', index, -0.5, incarnation, -0.25, owner, whole(-now), 'w', -1, 'n')
  high = now
  known = 0
else
  high = -high
end

local function raise(position)
  if position > high then
    high = position
    redis.call('ZADD', index, whole(-high), 'w')
  end
end

-- What was in doubt up to a date that has passed is so no longer for those who fetch from now on.
local passed = redis.call('ZREVRANGEBYSCORE', index, whole(now), '(' .. whole(high), 'WITHSCORES', 'LIMIT', 0, 1)
if passed[2] then raise(tonumber(passed[2])) end

local position = 0
