# frozen_string_literal: true

# Throws pages out of everpage when a transaction of Rails has committed. Rails 5.2 and later; no gem.
#
# This file goes to app/models/concerns/invalidates_pages.rb. A model names the pages that show it:
#
#   class IceCream < ApplicationRecord
#     include InvalidatesPages
#
#     def dependent_paths
#       ["/ice-cream/", "/ice-cream/#{slug}/"]
#     end
#   end
#
# A join model says `belongs_to :ice_cream, touch: true`. `update_all`, `delete_all`, `insert_all` and
# `has_and_belongs_to_many` run no callbacks: call `InvalidatesPages.invalidate(paths)` after them.
# EVERPAGE_ADMIN_URL and EVERPAGE_TOKEN come from the environment.

require "json"
require "net/http"
require "securerandom"
require "set"

module InvalidatesPages
  extend ActiveSupport::Concern

  TIMEOUT_SECONDS = 5

  # Tries again when everpage did not take it, about an hour long. With a queue in a database nothing is lost by a crash.
  class RetryJob < ActiveJob::Base
    class NotTaken < StandardError; end

    retry_on NotTaken, attempts: 60, wait: ->(executions) { [2**executions, 60].min.seconds } do |job, _error|
      job.logger&.error("everpage: not invalidated, old pages may stay: #{job.arguments.first}")
    end

    def perform(body)
      raise NotTaken unless InvalidatesPages.post(body)
    end
  end

  # Posts the paths. The first try is made at once, so that who saved sees the new page; more by the queue.
  def self.invalidate(paths, reason: "saved")
    return if paths.empty?

    # The same id in each try: everpage makes it one invalidation, even if an answer was lost on the way.
    body = { "paths" => paths.uniq, "reason" => reason, "id" => SecureRandom.uuid }
    RetryJob.set(wait: 0.5.seconds).perform_later(body) unless post(body)
  end

  # Whether everpage has made it durable on every node.
  def self.post(body)
    uri = URI.join(ENV.fetch("EVERPAGE_ADMIN_URL"), "/invalidate")
    timeouts = { open_timeout: TIMEOUT_SECONDS, read_timeout: TIMEOUT_SECONDS, max_retries: 0 }
    headers = { "Authorization" => "Bearer #{ENV.fetch('EVERPAGE_TOKEN')}", "Content-Type" => "application/json" }
    Net::HTTP.start(uri.host, uri.port, use_ssl: uri.scheme == "https", **timeouts) do |http|
      http.post(uri.path, JSON.generate(body), headers).is_a?(Net::HTTPOK)
    end
  rescue SystemCallError, SocketError, IOError, Timeout::Error, OpenSSL::SSL::SSLError, Net::ProtocolError => e
    ActiveRecord::Base.logger&.warn("everpage did not take #{body['paths']}: #{e.message}")
    false
  end

  # What is collected until the COMMIT. A connection belongs to one thread or fiber at a time.
  def self.pending(model)
    connection = connection_of(model)
    connection.instance_variable_get(:@everpage_paths) || connection.instance_variable_set(:@everpage_paths, Set.new)
  end

  # `connection` up to Rails 7.1.
  def self.connection_of(model)
    model.respond_to?(:lease_connection) ? model.lease_connection : model.connection
  end

  included do
    # Prepended: before `dependent: :destroy` takes away what the paths are made of.
    before_update(prepend: true) { collect_pages_of_the_stored_row }
    before_destroy(prepend: true) { collect_pages_of_the_stored_row }
    after_touch { collect_pages }
    after_save { collect_pages }
    # Rails runs this for each record after the outermost COMMIT; the first one sends for all.
    after_commit do
      pending = InvalidatesPages.pending(self.class)
      paths = pending.to_a
      pending.clear
      InvalidatesPages.invalidate(paths)
    end
    # After a savepoint's rollback the rest may still be committed: a page too many is thrown away, never one too few.
    after_rollback do
      still_open = InvalidatesPages.connection_of(self.class).transaction_open?
      InvalidatesPages.pending(self.class).clear unless still_open
    end
  end

  private

  def collect_pages
    InvalidatesPages.pending(self.class).merge(dependent_paths)
  end

  # The row as it is now, read anew: its slug and what belongs to it may be about to change.
  def collect_pages_of_the_stored_row
    self.class.unscoped.find_by(self.class.primary_key => id)&.send(:collect_pages)
  end
end
