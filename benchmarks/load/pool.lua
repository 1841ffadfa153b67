-- Sends the bodies of a file, one a line, in their order and from its start again; prints what came of it as one line of JSON.
-- Arguments after `--`: the file, the path, and `tensors` where each line is two numbers, the bytes of a body's JSON and those of
-- all of it, and the body follows it.
local requests, count, sent, began = {}, 0, 0, 0

function init(args)
  local file = io.open(args[1], "rb")
  for line in file:lines() do
    local headers, body = { ["content-type"] = "application/json" }, line
    if args[3] == "tensors" then
      local json, all = line:match("(%d+) (%d+)")
      headers = { ["content-type"] = "application/octet-stream", ["inference-header-content-length"] = json }
      body = file:read(tonumber(all))
    end
    count = count + 1
    requests[count] = wrk.format("POST", args[2], headers, body)
  end
  began = os.clock()
end

function request()
  sent = sent % count + 1
  return requests[sent]
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\nfigures: {"requests": %d, "seconds": %.6f, "p50_ms": %.4f, "p90_ms": %.4f, "p99_ms": %.4f, "max_ms": %.4f, '
      .. '"cpu_seconds": %.4f, "not_200": %d, "broken": %d, "timed_out": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(90) / 1e3,
    latency:percentile(99) / 1e3, latency.max / 1e3, os.clock() - began, e.status, e.connect + e.read + e.write, e.timeout))
end
