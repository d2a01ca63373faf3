# A Rack application without a framework, for Puma.
require "digest"
require "fileutils"
require "stringio"
require "zlib"

TEXT = Array.new(10_000) { |number| format("%06d\n", number) }.join.freeze
LIMIT = 1_000_000
PLAIN = { "Content-Type" => "text/plain" }.freeze

def compressed
  buffer = StringIO.new
  Zlib::GzipWriter.wrap(buffer) { |writer| writer.write(TEXT) }
  buffer.string
end

def text(env)
  fields = { **PLAIN, "ETag" => '"1"', "Cache-Control" => "max-age=60", "Accept-Ranges" => "bytes" }
  return [304, fields.except("Content-Type"), []] if env["HTTP_IF_NONE_MATCH"] == '"1"'
  first, last = env["HTTP_RANGE"]&.match(/\Abytes=(\d+)-(\d+)\z/)&.captures&.map(&:to_i)
  return [200, fields, [TEXT]] unless first
  [206, { **fields, "Content-Range" => "bytes #{first}-#{last}/#{TEXT.bytesize}" }, [TEXT[first..last]]]
end

def slow
  FileUtils.touch("#{ENV["MARKS"]}/waiting")
  sleep 0.02 until File.exist?("#{ENV["MARKS"]}/release")
  [200, PLAIN, [TEXT]]
end

def echo(content)
  [200, PLAIN, ["#{content.bytesize} #{Digest::SHA256.hexdigest(content)}"]]
end

ANSWERS = {
  "/text" => ->(env) { text(env) },
  "/gzip" => ->(_) { [200, { **PLAIN, "Content-Encoding" => "gzip", "Vary" => "Accept-Encoding" }, [compressed]] },
  # Without a length, Puma sends chunks.
  "/chunked" => ->(_) { [200, PLAIN, TEXT.scan(/.{1,7000}/m)] },
  "/redirect" => ->(_) { [302, { "Location" => "/text" }, []] },
  "/set-cookies" => ->(_) { [200, { **PLAIN, "Set-Cookie" => "a=1\nb=2" }, ["set"]] },
  "/cookies" => ->(env) { [200, PLAIN, [env.fetch("HTTP_COOKIE", "")]] },
  "/events" => ->(_) { [200, { "Content-Type" => "text/event-stream" }, (0..2).lazy.map { |it| "data: #{it}\n\n" }] },
  "/slow" => ->(_) { slow },
  "/echo" => ->(env) { echo(env["rack.input"].read) },
  "/refused" => ->(env) { env["CONTENT_LENGTH"].to_i > LIMIT ? [413, PLAIN, ["too large"]] : echo(env["rack.input"].read) },
}.freeze

run ->(env) { ANSWERS.fetch(env["PATH_INFO"]) { ->(_) { [404, PLAIN, []] } }.call(env) }
