-- Between `begin.lua` and `tell.lua`: this replica is there, and knows all that was purged up to here.
--
-- KEYS[4] the replicas   ARGV[5] what this one is called, or nothing   ARGV[6] for how long it may go on without a
-- word from here, in microseconds
if ARGV[5] ~= '' then
  -- Whoever may not say so reads all the same.
  redis.pcall('HSET', KEYS[4], ARGV[5], whole(known) .. ' ' .. whole(now) .. ' ' .. ARGV[6])
end
