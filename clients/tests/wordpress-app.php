<?php

/**
 * The recipe's plugin in a stand-in for WordPress: the few functions that it calls, with posts in a file of JSON.
 * Requests are real: PURGE goes to the real everpage.
 *
 *     PORT=8000 php -S 127.0.0.1:8000 wordpress-app.php
 */

define('EVERPAGE_URL', getenv('PROXY'));

function add_action(string $hook, callable $callback, int $priority = 10, int $arguments = 1): void
{
    $GLOBALS['hooks'][$hook][$priority][] = [$callback, $arguments];
}

function do_action(string $hook, ...$given): void
{
    ksort($GLOBALS['hooks'][$hook]);
    foreach (array_merge(...$GLOBALS['hooks'][$hook]) as [$callback, $arguments]) {
        $callback(...array_slice($given, 0, $arguments));
    }
}

function posts(?array $posts = null): array
{
    if ($posts !== null) {
        file_put_contents(getenv('DATABASE'), json_encode($posts));
    }
    return json_decode(file_get_contents(getenv('DATABASE')), true);
}

function get_post(int $id): ?object
{
    $post = posts()[$id] ?? null;
    return $post ? (object) ($post + ['ID' => $id, 'post_type' => 'post', 'post_author' => '3']) : null;
}

function wp_is_post_revision(object $post): bool
{
    return false;
}

function is_post_publicly_viewable(object $post): bool
{
    return $post->post_status === 'publish';
}

function home_url(string $path): string
{
    return 'http://blog.example:8080' . $path;
}

function get_permalink(object $post): string
{
    return home_url("/$post->post_name/");
}

function get_post_type_archive_link(string $type): bool
{
    return false;
}

function get_author_posts_url(int $id): string
{
    return home_url("/author/$id/");
}

function get_feed_link(): string
{
    return home_url('/feed/');
}

function get_object_taxonomies(string $type): array
{
    return ['category'];
}

function get_the_terms(object $post, string $taxonomy): array
{
    return [$post->category];
}

function get_term_link(string $term): string
{
    return home_url("/category/$term/");
}

function trailingslashit(string $text): string
{
    return rtrim($text, '/') . '/';
}

function untrailingslashit(string $text): string
{
    return rtrim($text, '/');
}

function wp_parse_url(string $url): array
{
    return parse_url($url);
}

function wp_remote_request(string $url, array $given): array
{
    $fields = array_map(fn ($name, $value) => "$name: $value", array_keys($given['headers']), $given['headers']);
    file_put_contents('php://stderr', "{$given['method']} $url {$fields[0]}\n");
    $options = ['method' => $given['method'], 'header' => $fields, 'timeout' => $given['timeout'], 'ignore_errors' => true];
    $body = @file_get_contents($url, false, stream_context_create(['http' => $options]));
    return ['code' => $body === false ? 0 : (int) explode(' ', $http_response_header[0])[1]];
}

function is_wp_error(array $answer): bool
{
    return $answer['code'] === 0;
}

function wp_remote_retrieve_response_code(array $answer): int
{
    return $answer['code'];
}

function wp_schedule_single_event(int $time, string $hook, array $given): void
{
    file_put_contents(getenv('DATABASE') . '.cron', json_encode([$hook, $given]));
}

require __DIR__ . '/../recipes/wordpress/everpage.php';

$path = $_SERVER['REQUEST_URI'];
if ($_SERVER['REQUEST_METHOD'] === 'POST' && $path === '/wp-cron.php') {
    [$hook, $given] = json_decode(file_get_contents(getenv('DATABASE') . '.cron'), true);
    unlink(getenv('DATABASE') . '.cron');
    do_action($hook, ...$given);
} elseif ($_SERVER['REQUEST_METHOD'] === 'POST') {
    $posts = posts();
    do_action('pre_post_update', 7);
    $posts[7] = array_merge($posts[7], $_POST);
    posts($posts);
    do_action('wp_after_insert_post', 7, get_post(7), true, null);
    do_action('shutdown');
} else {
    $listed = ['/', '/feed/', '/author/3/', '/page/2/'];
    foreach (posts() as $post) {
        if ($post['post_status'] !== 'publish') {
            continue;
        }
        if (in_array($path, [...$listed, "/category/$post[category]/", "/$post[post_name]/"], true)) {
            echo "<h1>$post[post_title]</h1>";
            return;
        }
    }
    http_response_code(404);
}
