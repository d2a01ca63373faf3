-- Puts a new value in its place, unless what stands there is of a later fetch: later by its `as_of`, or, where no purge
-- lies between, by when it was asked for.
--
-- KEYS[1] the response   KEYS[2] the new value   ARGV[1] how the new value begins, up to the time it was asked for
-- ARGV[2] when it was asked for at the latest, in microseconds   ARGV[3] when it expires, in milliseconds
--
-- By bytes: 5-6 version and kind, 63-78 epoch, 79-86 read version, 89-96 time; the numbers with their lowest byte first.
local function part(value, from, to) return string.sub(value, from, to) end
local function number(value, first)
  local sum = 0
  for at = first + 7, first, -1 do sum = sum * 256 + string.byte(value, at) end
  return sum
end
local new = ARGV[1]
local present = redis.call('GETRANGE', KEYS[1], 0, 95)
-- The three highest bits of the kind say how the value is compressed, encrypted and signed.
local function kind(value) return part(value, 1, 5) .. string.byte(value, 6) % 32 end
if #present == 96 and kind(present) == kind(new) and part(present, 63, 78) == part(new, 63, 78) then
  local its, ours = number(present, 79), number(new, 79)
  if its > ours or (its == ours and number(present, 89) > tonumber(ARGV[2])) then
    redis.call('UNLINK', KEYS[2])
    return 0
  end
end
redis.call('PEXPIREAT', KEYS[2], ARGV[3])
redis.call('RENAME', KEYS[2], KEYS[1])
return 1
