-- Which replicas there are, and how much each knows. `begin.lua` before: the caller is among them.
--
-- ARGV[9] a channel   ARGV[10] what to say there, or nothing   ARGV[11..] places that have been silent for too long, each with
-- when it reported: it is forgotten unless it has reported since
if ARGV[10] ~= '' then redis.pcall('PUBLISH', ARGV[9], ARGV[10]) end
for at = 11, #ARGV, 2 do
  local place = ARGV[at]
  if redis.call('ZSCORE', index, place) == ARGV[at + 1] then
    redis.call('ZREM', index, place, 'k' .. string.sub(place, 2, 9))
  end
end
local live = {}
local all = roll()
for at = 1, #all, 2 do
  local known = redis.call('ZSCORE', index, 'k' .. string.sub(all[at], 2, 9))
  local silent_for = math.max(0, now + all[at + 1] * 1073741824)
  live[#live + 1] = { all[at], all[at + 1], known and whole(-known - 1) or '0', whole(silent_for) }
end
-- Those of the former release know nothing of this index.
for _, former in ipairs(KEYS[3] and former_replicas() or {}) do
  live[#live + 1] = { 'r' .. string.rep('0', 40) .. former[1], '0', '0', whole(former[2]) }
end
return {
  ARGV[1], string.sub(epoch, 2), whole(now), whole(-redis.call('ZSCORE', index, 'c')), live,
}
