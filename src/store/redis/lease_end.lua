-- Ends the lease, if the caller still holds it, and wakes the replicas that wait for it.
--
-- KEYS[1] the lease   ARGV[1] the holder's token   ARGV[2] what stands there from now on, or nothing   ARGV[3] for how
-- long, in milliseconds   ARGV[4] the channel   ARGV[5] what to say there
local held = redis.call('GET', KEYS[1])
if not held or string.sub(held, 2) ~= ARGV[1] then return 0 end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
-- Whom it does not reach looks again when the lease would have ended.
if string.sub(held, 1, 1) == 'w' then redis.pcall('PUBLISH', ARGV[4], ARGV[5]) end
return 1
