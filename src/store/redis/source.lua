-- The shared state of a source of change events. One replica reads the source; if that one goes, another does.
--
-- KEYS[1] the source   ARGV[1] the caller   ARGV[2] purged up to here, or nothing   ARGV[3] '1': also if that is further back
-- ARGV[4] '1': it was heard of now   ARGV[5] '1': by an event   ARGV[6] for how many milliseconds the caller will read
-- ARGV[7] how many entries were ever added up to the position, or nothing
local known = {}
local all = redis.call('HGETALL', KEYS[1])
for at = 1, #all, 2 do known[all[at]] = all[at + 1] end

local time = redis.call('TIME')
local now = math.floor(time[1] * 1000 + time[2] / 1000)
local is_written = false
local function set(field, value)
  known[field] = value
  redis.call('HSET', KEYS[1], field, value)
  is_written = true
end

-- Numbers of 64 bits, which Lua has none of.
local function is_less(one, other)
  if #one ~= #other then return #one < #other end
  return one < other
end
local function is_before(one, other)
  local one_millis, one_number = string.match(one, '^(%d+)-(%d+)$')
  local millis, number = string.match(other, '^(%d+)-(%d+)$')
  if not one_millis or not millis then return true end
  if one_millis ~= millis then return is_less(one_millis, millis) end
  return is_less(one_number, number)
end

if ARGV[2] ~= '' and (ARGV[3] == '1' or not known.position or is_before(known.position, ARGV[2])) then
  set('position', ARGV[2])
  set('added', ARGV[7])
end
if ARGV[4] == '1' then set('contact', string.format('%d', now)) end
if ARGV[5] == '1' then set('event', string.format('%d', now)) end

local reads_for = tonumber(ARGV[6])
local is_free = not known.reader or known.reader == ARGV[1] or now >= tonumber(known['until'] or 0)
if reads_for > 0 and is_free then
  set('reader', ARGV[1])
  set('until', string.format('%d', now + reads_for))
elseif reads_for == 0 and known.reader == ARGV[1] then
  set('until', '0')
end
-- A source that nobody reads any more leaves nothing: 30 days. Without the right to do so it stays.
if is_written then redis.pcall('PEXPIRE', KEYS[1], 2592000000) end

local function ago(field)
  return known[field] and string.format('%d', math.max(0, now - tonumber(known[field]))) or ''
end
return {
  known.position or '', (reads_for > 0 and is_free) and 1 or 0, ago('contact'), ago('event'), known.added or '',
}
