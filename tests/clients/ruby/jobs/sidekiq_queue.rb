# Sidekiq: a worker works two queues and the scheduled jobs to the end; each job runs once.
#
# usage: ruby sidekiq_queue.rb HOST:PORT
ENV["SERVER"] = "redis://#{ARGV.fetch(0)}/0"
require_relative "sidekiq_app"
require "sidekiq/api"

JOBS = 300
$stdout.sync = true

def wait_until(what)
  deadline = Process.clock_gettime(Process::CLOCK_MONOTONIC) + 90
  until yield
    abort "FAILED: never happened: #{what}" if Process.clock_gettime(Process::CLOCK_MONOTONIC) > deadline
    sleep 0.05
  end
end

def same(got, wanted, what)
  abort "FAILED: #{what}: got #{got.inspect}, wanted #{wanted.inspect}" unless got == wanted
end

def runs
  Sidekiq.redis { |redis| redis.hgetall("times run") }
end

$sent = 0
# Every third to another queue, every tenth by the schedule.
def send_jobs(count)
  count.times do
    job = $sent % 3 == 0 ? Square.set(queue: "{jobs}urgent") : Square
    $sent % 10 == 0 ? job.perform_in(0.5, $sent) : job.perform_async($sent)
    $sent += 1
  end
end

worker = spawn("sidekiq", "-r", File.join(__dir__, "sidekiq_app.rb"), "-c", "4", "-t", "10",
               "-q", "{jobs}urgent", "-q", "{jobs}default", in: File::NULL)
begin
  send_jobs(JOBS)
  wait_until("a third is done") { runs.size > JOBS / 3 }
  before = $sent
  is_over = false
  puts "fail over the node of queue:{jobs}default"
  Thread.new { is_over = $stdin.gets.to_s.strip == "failed over" }
  until is_over
    send_jobs(1)
    sleep 0.005
  end
  meanwhile = $sent - before
  send_jobs(JOBS)

  wait_until("all jobs are done") { runs.size == $sent }
  # The heartbeat writes these every five seconds.
  wait_until("the worker's counts arrive") { Sidekiq::Stats.new.processed == $sent }
  same(runs, (0...$sent).to_h { |n| [n.to_s, "1"] }, "how often each job ran")
  stats = Sidekiq::Stats.new
  same([stats.failed, stats.enqueued, stats.scheduled_size, stats.retry_size], [0, 0, 0, 0], "failed, enqueued, scheduled, to retry")
  same(Sidekiq::ProcessSet.new.size, 1, "the workers that are known")
ensure
  Process.kill("TERM", worker)
  ended = Process.wait2(worker).last
end
same(ended.exitstatus, 0, "the worker's exit code")
puts "#{$sent} jobs ran once each, every tenth by the schedule, #{meanwhile} of them sent during the failover"
