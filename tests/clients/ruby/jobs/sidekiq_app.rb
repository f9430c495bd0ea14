# The application of sidekiq_queue.rb: what the worker's process and the one that sends both load.
require "sidekiq"

Redis.silence_deprecations = true
Sidekiq.configure_server do |config|
  config.redis = { url: ENV.fetch("SERVER") }
  config.average_scheduled_poll_interval = 1
end
Sidekiq.configure_client { |config| config.redis = { url: ENV.fetch("SERVER") } }

class Square
  include Sidekiq::Worker
  # The worker waits for all its queues in one BRPOP: that is served where they share a slot.
  sidekiq_options queue: "{jobs}default"

  def perform(number)
    Sidekiq.redis { |redis| redis.hincrby("times run", number.to_s, 1) }
  end
end
