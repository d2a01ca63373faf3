-- The last part of every script on the purge index: what the caller does not know yet.
--
-- Records come by version, all of one version in one reply, each with the date until which it leaves its target in doubt.

local page = tonumber(ARGV[4])
local records = redis.call('ZRANGEBYSCORE', index, '(' .. whole(known), whole(high), 'WITHSCORES', 'LIMIT', 0, page)
local reached = high
if #records == 2 * page then
  local last = records[#records]
  local complete = redis.call('ZRANGEBYSCORE', index, last, last, 'WITHSCORES')
  while records[#records] == last do
    records[#records] = nil
    records[#records] = nil
  end
  for _, part in ipairs(complete) do records[#records + 1] = part end
  reached = tonumber(last)
end
local changes = {}
for at = 1, #records, 2 do
  local date = until_of(records[at])
  changes[#changes + 1] = records[at]
  changes[#changes + 1] = records[at + 1]
  changes[#changes + 1] = date and whole(-date) or '0'
end
return {
  ARGV[1], string.sub(epoch, 2), whole(now), whole(known), whole(reached), reached == high and 1 or 0,
  whole(version), changes, whole(-redis.call('ZSCORE', index, 'c')),
}
