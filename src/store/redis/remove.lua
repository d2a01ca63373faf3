-- Removes a value that can't be read, unless it has been replaced since it was read.
--
-- KEYS[1] the value   ARGV[1] how it began
if redis.call('TYPE', KEYS[1]).ok ~= 'string' then return redis.call('UNLINK', KEYS[1]) end
if redis.call('GETRANGE', KEYS[1], 0, #ARGV[1] - 1) ~= ARGV[1] then return 0 end
return redis.call('UNLINK', KEYS[1])
