-- Takes a replica off the roll: it answers nothing from what it knows any more. The last one leaves the index and the
-- journal for a day. A replica that joins meanwhile keeps the index, and the next purge of the journal keeps that.
--
-- KEYS[1] the index   KEYS[2] the journal   ARGV[1] its place   ARGV[2] the id of its process   ARGV[3] milliseconds
local left = redis.call('ZREM', KEYS[1], ARGV[1], 'k' .. ARGV[2])

-- Only a user who may run PTTL and PERSIST could keep the key later.
local function expire(key)
  if type(redis.pcall('PTTL', key)) == 'number' and type(redis.pcall('PERSIST', key)) == 'number' then
    redis.pcall('PEXPIRE', key, ARGV[3])
  end
end

if redis.call('ZCOUNT', KEYS[1], -10000000, -1000000) == 0 then
  expire(KEYS[1])
  if KEYS[2] then expire(KEYS[2]) end
end
return left
