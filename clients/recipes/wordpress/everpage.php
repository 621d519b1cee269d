<?php

/**
 * Plugin Name: everpage
 * Description: Throws the pages that show a post, a term or a comment out of everpage when it has been saved.
 * Requires at least: 5.7
 * Requires PHP: 7.4
 *
 * Copy this file to wp-content/mu-plugins/, and say in wp-config.php where everpage listens for visitors:
 *
 *     define('EVERPAGE_URL', 'http://127.0.0.1:8080');
 *
 * and in everpage's config.toml who may purge: purge_from = ["127.0.0.1/32"]
 *
 * Everything is sent in the end, by the hook shutdown: what was written is in the database by then, and the answer
 * has not left yet, so that who saved sees the new page. A theme, menu or option changes all pages:
 * `everpage invalidate --all`.
 */

namespace Everpage;

const TIMEOUT_SECONDS = 5;
/** Pages of a list (/page/2/ ...) that are purged; older ones seldom change, and PURGE names one path at a time. */
const LIST_PAGES = 10;
/** Seconds before further tries, by WordPress' own cron. */
const PAUSES = [10, 60, 300, 900, 3600];

/**
 * Remembers URLs for the end of this request; without any it tells what was remembered, and forgets it.
 *
 * @param string[] $urls
 * @return string[]
 */
function remembered(array $urls = []): array
{
    static $all = [];
    if ($urls !== []) {
        $all += array_fill_keys($urls, true);
        return [];
    }
    $taken = array_keys($all);
    $all = [];
    return $taken;
}

/** The pages that show a post: its own, the front page, feeds, archives of its type, terms and author. */
function remember_post(int $id): void
{
    $post = get_post($id);
    if (!$post || wp_is_post_revision($post) || !is_post_publicly_viewable($post)) {
        return;
    }
    $lists = [home_url('/'), get_post_type_archive_link($post->post_type), get_author_posts_url((int) $post->post_author)];
    foreach (get_object_taxonomies($post->post_type) as $taxonomy) {
        $terms = get_the_terms($post, $taxonomy);
        foreach (is_array($terms) ? $terms : [] as $term) {
            $lists[] = get_term_link($term);
        }
    }
    $urls = [get_permalink($post), get_feed_link()];
    foreach (array_filter($lists, 'is_string') as $list) {
        $urls = array_merge($urls, with_further_pages($list));
    }
    remembered($urls);
}

/** @return string[] */
function with_further_pages(string $list): array
{
    $urls = [$list];
    for ($page = 2; $page <= LIST_PAGES; $page++) {
        $urls[] = trailingslashit($list) . "page/$page/";
    }
    return $urls;
}

/**
 * Purges each URL, and tries again later what failed. Twice does no harm, so a purge needs no id.
 *
 * @param string[] $urls
 */
function purge(array $urls, int $tried = 0): void
{
    $failed = array_values(array_filter($urls, fn (string $url): bool => !purged($url)));
    if ($failed === []) {
        return;
    }
    if ($tried < count(PAUSES)) {
        wp_schedule_single_event(time() + PAUSES[$tried], 'everpage_retry', [$failed, $tried + 1]);
    } else {
        error_log('everpage: not purged, old pages may stay: ' . implode(' ', $failed));
    }
}

function purged(string $url): bool
{
    $parts = wp_parse_url($url);
    $host = $parts['host'] . (isset($parts['port']) ? ":{$parts['port']}" : '');
    $answer = wp_remote_request(untrailingslashit(EVERPAGE_URL) . ($parts['path'] ?? '/'), [
        'method' => 'PURGE',
        'headers' => ['Host' => $host],
        'timeout' => TIMEOUT_SECONDS,
        'redirection' => 0,
    ]);
    return !is_wp_error($answer) && wp_remote_retrieve_response_code($answer) === 200;
}

// Before: the old permalink, terms and author. After: once the post, its terms and its fields are all written.
foreach (['pre_post_update', 'wp_after_insert_post', 'wp_trash_post', 'before_delete_post'] as $hook) {
    add_action($hook, fn ($id) => remember_post((int) $id));
}
foreach (['comment_post', 'edit_comment', 'delete_comment', 'wp_set_comment_status'] as $hook) {
    add_action($hook, function ($id) {
        $comment = get_comment($id);
        if ($comment) {
            remember_post((int) $comment->comment_post_ID);
        }
    });
}
foreach (['edit_terms', 'edited_term', 'pre_delete_term'] as $hook) {
    add_action($hook, function ($id) {
        $link = get_term_link((int) $id);
        if (is_string($link)) {
            remembered(with_further_pages($link));
        }
    });
}
// Before WordPress' own 1, which sends the rest of the answer.
add_action('shutdown', fn () => purge(remembered()), 0);
add_action('everpage_retry', fn (array $urls, int $tried) => purge($urls, $tried), 10, 2);
