-- Which replicas there are, and how much each knows. Whoever is silent for so long that it can't answer from what it
-- knows any more is there no longer.
--
-- KEYS[1] the replicas   ARGV[1] a channel   ARGV[2] what to say there, or nothing
if ARGV[2] ~= '' then redis.pcall('PUBLISH', ARGV[1], ARGV[2]) end
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local all = redis.call('HGETALL', KEYS[1])
local live = {}
for at = 1, #all, 2 do
  local position, seen, lasts, incarnation = string.match(all[at + 1], '^(%d+) (%d+) (%d+) (%x+)$')
  if not position or now - seen > tonumber(lasts) then
    redis.pcall('HDEL', KEYS[1], all[at])
  else
    live[#live + 1] = { all[at], position, string.format('%d', math.max(0, now - seen)), incarnation }
  end
end
return live
