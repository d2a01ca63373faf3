-- Charges a request to a budget (GCRA), by the server's clock. The value is when all that it owes is paid back, in
-- microseconds. A debt above the capacity is cut to it: the limit was larger before, or the clock stepped back.
--
-- KEYS[1] the budget   ARGV[1] the price in microseconds   ARGV[2] the capacity: the most that it may owe
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local price, capacity = tonumber(ARGV[1]), tonumber(ARGV[2])
local recorded = math.max(0, tonumber(redis.call('GET', KEYS[1]) or 0) - now)
local owed = math.min(recorded, capacity)
local is_granted = owed + price <= capacity
if is_granted then owed = owed + price end
if is_granted or owed < recorded then
  redis.call('SET', KEYS[1], string.format('%.0f', now + owed), 'PX', math.ceil(owed / 1000))
end
return { is_granted and 1 or 0, owed }
