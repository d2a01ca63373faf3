-- Renews the lease, if the caller still holds it.
--
-- KEYS[1] the lease   ARGV[1] the holder's token   ARGV[2] how long it lasts, in milliseconds
local held = redis.call('GET', KEYS[1])
if not held or string.sub(held, 2) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
