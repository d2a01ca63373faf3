-- Takes the lease of a key, or says what it is waited for.
--
-- KEYS[1] the lease   KEYS[2] the response   ARGV[1] the holder's random token   ARGV[2] how long it lasts, in
-- milliseconds   ARGV[3] nothing, if the caller has found no response
--
-- The lease is 'h<token>', or 'w<token>' once somebody waits for it. 'n' says that the response is not to be shared,
-- 'e' that each replica fetches for itself.
local held = redis.call('GET', KEYS[1])
if held then
  if string.sub(held, 1, 1) == 'h' then redis.call('SETRANGE', KEYS[1], 0, 'w') end
  return { string.sub(held, 1, 1), redis.call('PTTL', KEYS[1]) }
end
-- It was stored between the look and this.
if ARGV[3] == '' and redis.call('EXISTS', KEYS[2]) == 1 then return { 's', 0 } end
redis.call('SET', KEYS[1], 'h' .. ARGV[1], 'PX', ARGV[2])
return { 't', 0 }
