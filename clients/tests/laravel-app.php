<?php

/**
 * The recipe's trait and job on Laravel's real components (Eloquent, HTTP client, queue), with SQLite.
 *
 *     php laravel-app.php PORT      a web server, and a worker of the queue beside it
 */

use App\Models\Concerns\InvalidatesPages;
use Illuminate\Container\Container;
use Illuminate\Contracts\Bus\Dispatcher as BusContract;
use Illuminate\Contracts\Container\Container as ContainerContract;
use Illuminate\Contracts\Debug\ExceptionHandler;
use Illuminate\Database\Capsule\Manager as Database;
use Illuminate\Database\DatabaseTransactionsManager;
use Illuminate\Database\Eloquent\Model;
use Illuminate\Database\Schema\Blueprint;
use Illuminate\Events\Dispatcher as Events;
use Illuminate\Http\Client\Factory as HttpClient;
use Illuminate\Queue\Capsule\Manager as Queue;
use Illuminate\Queue\Connectors\DatabaseConnector;
use Illuminate\Queue\Worker;
use Illuminate\Queue\WorkerOptions;
use Illuminate\Support\Facades\Facade;

error_reporting(E_ALL & ~E_DEPRECATED);
foreach (['Container', 'Events', 'Bus', 'Database', 'Http', 'Queue'] as $component) {
    require_once "/usr/share/php/Illuminate/$component/autoload.php";
}
require_once '/usr/share/php/GuzzleHttp/autoload.php';
require __DIR__ . '/../recipes/laravel/InvalidatePages.php';
require __DIR__ . '/../recipes/laravel/InvalidatesPages.php';

function config(string $key): string
{
    return getenv(['services.everpage.url' => 'EVERPAGE_ADMIN_URL', 'services.everpage.token' => 'EVERPAGE_TOKEN'][$key]);
}

class IceCream extends Model
{
    use InvalidatesPages;

    public $timestamps = false;
    protected $guarded = [];

    public function dependentPaths(): iterable
    {
        return ['/ice-cream/', "/ice-cream/{$this->slug}/"];
    }
}

/** What a Laravel app has made by the time a controller runs. */
function boot(): array
{
    $container = Container::getInstance();
    $container->instance(ContainerContract::class, $container);
    Facade::setFacadeApplication($container);
    $events = new Events($container);
    $container->instance('events', $events);
    $database = new Database($container);
    $database->addConnection(['driver' => 'sqlite', 'database' => getenv('DATABASE')]);
    $database->setEventDispatcher($events);
    $database->setAsGlobal();
    $database->bootEloquent();
    $connection = $database->getConnection();
    $connection->statement('PRAGMA busy_timeout = 10000');
    $connection->setTransactionManager(new DatabaseTransactionsManager());
    $queue = new Queue($container);
    $queue->addConnector('database', fn () => new DatabaseConnector($database->getDatabaseManager()));
    $queue->addConnection(['driver' => 'database', 'table' => 'jobs', 'queue' => 'default', 'retry_after' => 90]);
    $bus = new Illuminate\Bus\Dispatcher($container, fn () => $queue->getConnection());
    $container->instance(BusContract::class, $bus);
    $container->instance(HttpClient::class, new HttpClient());
    $container->instance('log', new class () {
        public function __call(string $level, array $given): void
        {
            fwrite(fopen('php://stderr', 'w'), "$level: $given[0]\n");
        }
    });
    return [$container, $connection, $queue, $events];
}

function answer(string $method, string $path, array $fields, $connection): array
{
    $line = fn (IceCream $row) => htmlspecialchars("$row->name $row->price") . "\n";
    $find = fn (string $slug) => IceCream::where('slug', $slug)->first();
    if ("$method $path" === 'GET /ice-cream/') {
        return [200, IceCream::orderBy('name')->get()->map($line)->join('')];
    }
    if ("$method $path" === 'POST /ice-cream/') {
        IceCream::create($fields);
        return [201, ''];
    }
    if ("$method $path" === 'POST /sale/') {
        $connection->transaction(fn () => IceCream::all()->each->update($fields));
        return [204, ''];
    }
    if ($method === 'POST' && preg_match('{^/ice-cream/([^/]+)/delete/$}', $path, $found)) {
        $find($found[1])?->delete();
        return [204, ''];
    }
    if ($method === 'POST' && preg_match('{^/ice-cream/([^/]+)/$}', $path, $found)) {
        $connection->beginTransaction();
        // In a savepoint, as a service within a controller's transaction would.
        $connection->transaction(fn () => $find($found[1])->update($fields));
        if (($fields['price'] ?? '') === 'free') {
            $connection->rollBack();
            // The same process goes on, as a worker of Octane or of the queue does.
            $find('chocolate')?->update(['price' => '2.81']);
            return [422, ''];
        }
        $connection->commit();
        return [204, ''];
    }
    $row = preg_match('{^/ice-cream/([^/]+)/$}', $path, $found) ? $find($found[1]) : null;
    return $row ? [200, $line($row)] : [404, ''];
}

touch(getenv('DATABASE'));
[$container, $connection, $queue, $events] = boot();

if (PHP_SAPI !== 'cli') {
    [$status, $body] = answer($_SERVER['REQUEST_METHOD'], $_SERVER['REQUEST_URI'], $_POST, $connection);
    http_response_code($status);
    echo $body;
    return;
}

$connection->getSchemaBuilder()->create('ice_creams', function (Blueprint $table) {
    $table->id();
    $table->string('slug')->unique();
    $table->string('name');
    $table->string('price');
});
$connection->getSchemaBuilder()->create('jobs', function (Blueprint $table) {
    $table->id();
    $table->string('queue')->index();
    $table->longText('payload');
    $table->unsignedTinyInteger('attempts');
    $table->unsignedInteger('reserved_at')->nullable();
    $table->unsignedInteger('available_at');
    $table->unsignedInteger('created_at');
});
$server = proc_open([PHP_BINARY, '-S', "127.0.0.1:$argv[1]", __FILE__], [], $pipes);
$handler = new class () implements ExceptionHandler {
    public function report(Throwable $error)
    {
        fwrite(STDERR, $error->getMessage() . "\n");
    }

    public function shouldReport(Throwable $error)
    {
        return true;
    }

    public function render($request, Throwable $error)
    {
    }

    public function renderForConsole($output, Throwable $error)
    {
    }
};
$worker = new Worker($queue->getQueueManager(), $events, $handler, fn () => false);
while (proc_get_status($server)['running']) {
    $worker->runNextJob('default', 'default', new WorkerOptions(sleep: 0));
    usleep(100_000);
}
