-- Remembers that a signed event was taken.
--
-- KEYS[1] its name   ARGV[1] for how many milliseconds
return redis.call('SET', KEYS[1], '1', 'NX', 'PX', ARGV[1])
