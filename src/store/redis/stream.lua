-- The entries of a stream after a position, and the state of the stream at that moment.
--
-- KEYS[1] the stream   ARGV[1] the position   ARGV[2] how many entries at most
local info = redis.pcall('XINFO', 'STREAM', KEYS[1])
if info.err then
  if string.find(info.err, 'no such key', 1, true) then return { '0-0', 0, '', '', '', 0, {} } end
  return info
end
local state = {}
for at = 1, #info, 2 do state[info[at]] = info[at + 1] end
local first = state['first-entry']
return {
  state['last-generated-id'], state['length'], state['entries-added'] or '', state['max-deleted-entry-id'] or '',
  first and first[1] or '', #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1], 'COUNT', 1),
  redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2]),
}
