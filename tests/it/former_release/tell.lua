-- The last part of every script on the purge index: what the caller does not know yet.
--
-- ARGV[4] how many records one reply has
--
-- Records come by position up to the high-water mark, all of one position in one reply. What is in doubt lies beyond
-- the mark; it comes with the last page, and again each time.

local page = tonumber(ARGV[4])
local records = redis.call('ZRANGEBYSCORE', index, '(' .. whole(known), whole(high), 'WITHSCORES', 'LIMIT', 0, page)
local reached = high
if #records == 2 * page then
  local last = records[#records]
  for _, part in ipairs(redis.call('ZRANGEBYSCORE', index, last, last, 'WITHSCORES')) do
    records[#records + 1] = part
  end
  reached = tonumber(last)
end
if reached == high then
  for _, part in ipairs(redis.call('ZRANGEBYSCORE', index, '(' .. whole(high), '+inf', 'WITHSCORES')) do
    records[#records + 1] = part
  end
end
return {
  ARGV[1], string.sub(incarnation, 2), whole(now), whole(known), whole(reached), reached == high and 1 or 0,
  whole(position), records,
}
