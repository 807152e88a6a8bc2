-- wrk's own report rounds; this prints one line of JSON instead. Times are in microseconds.
done = function(summary, latency, requests)
  local errors = summary.errors
  print(string.format(
    'JSON {"requests":%d,"microseconds":%d,"p50":%d,"p99":%d,"p999":%d,"failed":%d}',
    summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9),
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
