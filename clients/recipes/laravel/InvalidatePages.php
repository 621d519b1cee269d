<?php

namespace App\Jobs;

use Illuminate\Bus\Queueable;
use Illuminate\Contracts\Queue\ShouldQueue;
use Illuminate\Database\Connection;
use Illuminate\Queue\InteractsWithQueue;
use Illuminate\Support\Facades\Bus;
use Illuminate\Support\Facades\Http;
use Illuminate\Support\Facades\Log;
use Illuminate\Support\Str;
use RuntimeException;
use Throwable;
use WeakReference;

/**
 * Throws pages out of everpage: app/Jobs/InvalidatePages.php. Laravel 8 and later.
 *
 * As a job it tries again what everpage did not take at once. With a queue in a database nothing is lost by a crash.
 *
 * config/services.php: 'everpage' => ['url' => env('EVERPAGE_ADMIN_URL'), 'token' => env('EVERPAGE_TOKEN')],
 */
class InvalidatePages implements ShouldQueue
{
    use InteractsWithQueue;
    use Queueable;

    private const TIMEOUT_SECONDS = 5;

    /** About an hour of tries. */
    public int $tries = 60;

    /** @var array<string, WeakReference<\ArrayObject>> What each connection has collected in its transaction. */
    private static array $collected = [];

    /** @param array{paths: list<string>, reason: string, id: string} $body */
    public function __construct(private array $body)
    {
    }

    /**
     * Sends the paths once the outermost transaction has been committed, together with all others of it; at once if
     * there is none; never if it is rolled back.
     *
     * Only the callbacks of the transaction hold what was collected: with them it goes when the transaction is
     * rolled back. After a savepoint's rollback a page too many may be thrown away, never one too few.
     *
     * @param iterable<string> $paths
     */
    public static function afterCommit(Connection $connection, iterable $paths): void
    {
        $name = (string) $connection->getName();
        $collected = isset(self::$collected[$name]) ? self::$collected[$name]->get() : null;
        if ($collected === null) {
            $collected = new \ArrayObject();
            self::$collected[$name] = WeakReference::create($collected);
        }
        foreach ($paths as $path) {
            $collected[$path] = true;
        }
        $connection->afterCommit(function () use ($collected) {
            self::now(array_map('strval', array_keys($collected->exchangeArray([]))));
        });
    }

    /**
     * Posts the paths. The first try is made at once, so that who saved sees the new page; more by the queue.
     *
     * @param list<string> $paths
     */
    public static function now(array $paths, string $reason = 'saved'): void
    {
        if ($paths === []) {
            return;
        }
        // The same id in each try: everpage makes it one invalidation, even if an answer was lost on the way.
        $job = new self(['paths' => $paths, 'reason' => $reason, 'id' => (string) Str::uuid()]);
        try {
            $job->handle();
        } catch (Throwable $error) {
            Log::warning('everpage did not take it at once: ' . $error->getMessage(), ['paths' => $paths]);
            try {
                Bus::dispatch($job->delay(1));
            } catch (Throwable $error) {
                $job->failed($error);
            }
        }
    }

    public function handle(): void
    {
        // The token is for one address: no redirect, no proxy that HTTP_PROXY names.
        $answer = Http::withToken(config('services.everpage.token'))
            ->timeout(self::TIMEOUT_SECONDS)
            ->withOptions(['allow_redirects' => false, 'proxy' => ''])
            ->post(rtrim(config('services.everpage.url'), '/') . '/invalidate', $this->body);
        if ($answer->status() === 400) {
            $this->halve();
        } elseif ($answer->status() !== 200) {
            throw new RuntimeException("it answered {$answer->status()}: {$answer->body()}");
        }
    }

    /** One wrong path, and everpage does nothing of a body: this finds it, and what was named beside it goes. */
    private function halve(): void
    {
        $paths = $this->body['paths'];
        if (count($paths) === 1) {
            Log::error('everpage: rejected, never to be invalidated', $this->body);
            return;
        }
        foreach (array_chunk($paths, intdiv(count($paths) + 1, 2)) as $half) {
            self::now($half, $this->body['reason']);
        }
    }

    /** @return list<int> Seconds before each further try; the last one holds for all that follow. */
    public function backoff(): array
    {
        return [1, 2, 5, 10, 30, 60];
    }

    public function failed(?Throwable $error): void
    {
        Log::error('everpage: not invalidated, old pages may stay', $this->body);
    }
}
