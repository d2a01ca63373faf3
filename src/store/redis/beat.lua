-- Says that this replica is there and up to where it knows all purges, or that it is there no longer.
--
-- KEYS[1] the replicas   ARGV[1] what this one is called   ARGV[2] the position, or nothing: it leaves   ARGV[3] the
-- incarnation that the position is of   ARGV[4] for how long it may go on without a word from here, in microseconds
redis.call('HDEL', KEYS[1], '')
if ARGV[2] == '' then return redis.call('HDEL', KEYS[1], ARGV[1]) end
local time = redis.call('TIME')
local now = string.format('%d', time[1] * 1000000 + time[2])
redis.call('HSET', KEYS[1], ARGV[1], table.concat({ ARGV[2], now, ARGV[4], ARGV[3] }, ' '))
