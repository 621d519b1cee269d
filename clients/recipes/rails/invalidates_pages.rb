# frozen_string_literal: true

# Throws pages out of everpage when a transaction of Rails has committed. Rails 5.2 and later; no gem.
#
# This file goes to app/models/concerns/invalidates_pages.rb. A model names the pages that show it:
#
#   class IceCream < ApplicationRecord
#     include InvalidatesPages
#
#     def dependent_paths
#       ["/ice-cream/", "/ice-cream/#{ERB::Util.url_encode(slug)}/"]
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
      left = InvalidatesPages.post(body)
      raise NotTaken if left == [body]

      left.each { |half| self.class.perform_later(half) }
    end
  end

  # Posts the paths. The first try is made at once, so that who saved sees the new page; more by the queue.
  def self.invalidate(paths, reason: "saved")
    return if paths.empty?

    post(body_of(paths.uniq, reason)).each { |left| RetryJob.set(wait: 0.5.seconds).perform_later(left) }
  rescue StandardError => e # The queue is down.
    log(:error, "not invalidated, old pages may stay: #{paths}: #{e.message}")
  end

  # The same id in each try: everpage makes it one invalidation, even if an answer was lost on the way.
  def self.body_of(paths, reason)
    { "paths" => paths, "reason" => reason, "id" => SecureRandom.uuid }
  end

  # What is to be tried again: nothing if everpage has made it durable on every node.
  def self.post(body)
    case status_of(body)
    when "200" then []
    when "400" then post_halves(body)
    else [body]
    end
  end

  # One wrong path, and everpage does nothing of a body: this finds it, and what was named beside it goes.
  def self.post_halves(body)
    paths = body["paths"]
    if paths.one?
      log(:error, "rejected, never to be invalidated: #{paths}")
      return []
    end
    paths.each_slice((paths.size + 1) / 2).flat_map { |half| post(body_of(half, body["reason"])) }
  end

  # Whatever goes wrong: the save has been committed.
  def self.status_of(body)
    uri = URI.join(ENV.fetch("EVERPAGE_ADMIN_URL"), "/invalidate")
    options = { open_timeout: TIMEOUT_SECONDS, read_timeout: TIMEOUT_SECONDS, max_retries: 0, use_ssl: uri.scheme == "https" }
    headers = { "Authorization" => "Bearer #{ENV.fetch('EVERPAGE_TOKEN')}", "Content-Type" => "application/json" }
    # nil: not through a proxy that http_proxy names. Net::HTTP follows no redirects.
    answer = Net::HTTP.start(uri.host, uri.port, nil, options) { |http| http.post(uri.path, JSON.generate(body), headers) }
    log(:warn, "did not take #{body['paths']}: #{answer.code} #{answer.body}") unless answer.code == "200"
    answer.code
  rescue StandardError => e
    log(:warn, "did not take #{body['paths']}: #{e.message}")
    nil
  end

  def self.log(level, message)
    ActiveRecord::Base.logger&.public_send(level, "everpage: #{message}")
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
