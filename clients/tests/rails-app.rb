# frozen_string_literal: true

# The recipe's concern on the real ActiveRecord and ActiveJob, with SQLite, behind a few routes of WEBrick.
#
#   DATABASE=shop.sqlite3 ruby rails-app.rb PORT

require "active_record"
require "active_job"
require "cgi"
require "webrick"
require_relative "../recipes/rails/invalidates_pages"

ActiveRecord::Base.establish_connection(adapter: "sqlite3", database: ENV.fetch("DATABASE"), timeout: 10_000)
ActiveRecord::Schema.verbose = false
ActiveRecord::Schema.define { create_table(:ice_creams) { |t| %i[slug name price].each { |field| t.string field } } }
ActiveJob::Base.queue_adapter = :async
ActiveJob::Base.logger = nil

class IceCream < ActiveRecord::Base
  include InvalidatesPages

  def dependent_paths
    ["/ice-cream/", "/ice-cream/#{slug}/"]
  end
end

def answer(method, path, fields)
  case [method, path]
  in ["GET", "/ice-cream/"]
    [200, IceCream.order(:name).map { |row| CGI.escapeHTML("#{row.name} #{row.price}") }.join("\n")]
  in ["GET", %r{\A/ice-cream/([^/]+)/\z}]
    row = IceCream.find_by(slug: $1)
    row ? [200, CGI.escapeHTML("#{row.name} #{row.price}")] : [404, ""]
  in ["POST", "/ice-cream/"]
    IceCream.create!(fields)
    [201, ""]
  in ["POST", "/sale/"]
    IceCream.transaction { IceCream.find_each { |row| row.update!(fields) } }
    [204, nil]
  in ["POST", %r{\A/ice-cream/([^/]+)/delete/\z}]
    IceCream.find_by(slug: $1)&.destroy!
    [204, nil]
  in ["POST", %r{\A/ice-cream/([^/]+)/\z}]
    status = 422
    IceCream.transaction do
      # In a savepoint, as a service object within a controller's transaction would.
      IceCream.transaction(requires_new: true) { IceCream.find_by!(slug: $1).update!(fields) }
      raise ActiveRecord::Rollback if fields["price"] == "free"

      status = 204
    end
    [status, nil]
  end
end

quiet = { Logger: WEBrick::Log.new(File::NULL), AccessLog: [] }
server = WEBrick::HTTPServer.new(Port: Integer(ARGV.fetch(0)), BindAddress: "127.0.0.1", **quiet)
server.mount_proc("/") do |request, response|
  ActiveRecord::Base.connection_pool.with_connection do
    response.status, body = answer(request.request_method, request.path, request.query)
    response["Content-Type"] = "text/html"
    response.body = body if body
  end
end
server.start
