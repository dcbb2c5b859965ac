# Asks URL once with Net::HTTP, and says so before it does.
require 'net/http'
puts "asking #{RUBY_VERSION}"
$stdout.flush
Net::HTTP.get(URI(ARGV[0]))
