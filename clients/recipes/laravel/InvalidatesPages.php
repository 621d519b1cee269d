<?php

namespace App\Models\Concerns;

use App\Jobs\InvalidatePages;

/**
 * A model that names the pages that show it: app/Models/Concerns/InvalidatesPages.php.
 *
 *     class IceCream extends Model
 *     {
 *         use InvalidatesPages;
 *
 *         public function dependentPaths(): iterable
 *         {
 *             return ['/ice-cream/', '/ice-cream/' . rawurlencode($this->slug) . '/'];
 *         }
 *     }
 *
 * Queries (`IceCream::where(...)->update(...)`), `attach` and `sync` fire no events of the model: call
 * `InvalidatePages::afterCommit(DB::connection(), $paths)` beside them, or `touch()` the model.
 */
trait InvalidatesPages
{
    /** @return iterable<string> */
    abstract public function dependentPaths(): iterable;

    protected static function bootInvalidatesPages(): void
    {
        $new = fn (self $model) => InvalidatePages::afterCommit($model->getConnection(), $model->dependentPaths());
        // The row as it is now, read anew: its slug and its relations may be about to change.
        $old = function (self $model) use ($new): void {
            if ($stored = static::withoutGlobalScopes()->find($model->getKey())) {
                $new($stored);
            }
        };
        static::updating($old);
        static::deleting($old);
        static::saved($new);
    }
}
