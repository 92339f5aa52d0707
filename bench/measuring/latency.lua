-- wrk's report as one line of JSON: its own text has no 99.9th percentile.
-- Requests stay constant bytes, and no Lua runs while it measures: `init` is for once, `done` for the end.
-- An argument is the length of a body that each request has, 0 for none; the next one is what it accepts, "" for nothing
-- said; with a third, each request has a connection of its own.
init = function(args)
   if args[1] and args[1] ~= "0" then
      wrk.method = "POST"
      wrk.body = string.rep("0", tonumber(args[1]))
   end
   if args[2] and args[2] ~= "" then
      wrk.headers["Accept-Encoding"] = args[2]
   end
   if args[3] then
      wrk.headers["Connection"] = "close"
   end
end

done = function(summary, latency, requests)
   local errors = summary.errors
   io.write(string.format(
      '{"requests":%d,"duration_us":%d,"p50_us":%d,"p99_us":%d,"p99_9_us":%d,"errors":%d}\n',
      summary.requests, summary.duration,
      latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
      errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
