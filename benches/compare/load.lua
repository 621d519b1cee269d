-- What wrk sends, and what it says at the end. Arguments after `--`: the file of draws and the number of pages, or "-" and 0 for one URL; requests
-- per second, or 0 for as many as come.
local ffi = require("ffi")
ffi.cdef [[
typedef struct { long seconds; long nanoseconds; } everpage_time;
int clock_gettime(int clock, everpage_time *time);
]]
local MONOTONIC = 1
local time = ffi.new("everpage_time")

local function now_ms()
  ffi.C.clock_gettime(MONOTONIC, time)
  return tonumber(time.seconds) * 1e3 + tonumber(time.nanoseconds) / 1e6
end

-- The mix: all requests are made before the first is sent, and chosen by a list of page numbers (32 bits each, of this machine's order).
local function mix(draws_file, pages)
  local file = assert(io.open(draws_file, "rb"))
  local drawn = file:read("*a")
  file:close()
  local draws, count, next_draw = ffi.cast("const uint32_t *", drawn), #drawn / 4, 0
  local requests = {}
  for number = 0, pages - 1 do
    requests[number] = wrk.format(nil, "/mix/" .. number)
  end
  kept = drawn -- `draws` points into it: a global is never collected.
  request = function()
    local number = draws[next_draw]
    next_draw = (next_draw + 1) % count
    return requests[number]
  end
end

-- Arrivals at random moments (a Poisson process) of a fixed rate: whoever is free takes the next moment. A late one is sent at once, so that the rate
-- is kept. wrk counts in milliseconds, so those of one millisecond come together.
local function pace(rate)
  local interval_ms, due_ms = 1000 / rate, nil
  math.randomseed(1)
  delay = function()
    local at_ms = now_ms()
    due_ms = (due_ms or at_ms) - math.log(1 - math.random()) * interval_ms
    return math.max(0, math.floor(due_ms - at_ms + 0.5))
  end
end

function init(args)
  local draws_file, pages, rate = args[1], tonumber(args[2]), tonumber(args[3])
  if draws_file ~= "-" then mix(draws_file, pages) end
  if rate > 0 then pace(rate) end
end

function done(summary, latency, requests)
  local errors = summary.errors
  print(string.format(
    '\nresult {"requests":%d,"duration_us":%d,"bytes":%d,"errors":%d,"p50_us":%d,"p99_us":%d,"p999_us":%d}',
    summary.requests, summary.duration, summary.bytes,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
