-- The last purges, for people: a page of them, the latest first.
--
-- KEYS[1] the journal   ARGV[1] no later than this   ARGV[2] no earlier   ARGV[3] how many
return redis.call('XREVRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', ARGV[3])
