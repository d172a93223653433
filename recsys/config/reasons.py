"""Reasons for defaults, and examples of the keys of which no rule makes one."""

# Reasons that follow from the description of a key are left out.
REASONS = {
    "executor": "it uses all cores; local starts at once, which small logs and tests are better "
    "off with.",
    "data.columns.item_key": "most tables name their ids as the events do.",
    "data.columns.query_key": "most tables name their ids as the events do.",
    "data.columns.timestamp_unit": "the values tell the unit of nearly every log; where they do "
    "not, prepare stops and asks.",
    "data.min_rating": "what a good rating is differs from log to log; until it is set, every "
    "event is a positive.",
    "data.event_types": "which types are positives only you know; until they are listed, every "
    "event is a positive.",
    "data.split.kind": "it needs no real clock, tests every query, and is the split of most papers "
    "on sequences. Prefer time where the clock is real: it is what serving will be like.",
    "data.history.kind": "a request knows the past alone; others is for logs without an order.",
    "data.history.max_length": "longer ones cost time and memory; init takes what 90 % of queries "
    "have.",
    "data.repeats": "in most logs, nobody wants again what they have had; groceries, music and "
    "news differ.",
    "data.label_fraction": "less is for studies only.",
    "data.quality.max_rejected_files": "a file that is left out unnoticed is worse than a run that "
    "stops.",
    "features.*.min_count": "a rare value helps where items are few; init raises it where most "
    "values of a large column occur once.",
    "features.*.max_vocabulary": "it bounds a table's memory; beyond it, hash_buckets are cheaper.",
    "features.*.max_idle_days": "a row that never moves is right for any log; a limit keeps tables "
    "small where values come and go.",
    "features.*.hash_buckets": "a vocabulary gives each value a row of its own, and explanations "
    "their names.",
    "features.*.pooling": "what came last says most of what comes next.",
    "features.*.tokens": "words are few and name what they mean; parts of words help with names "
    "and misspellings.",
    "features.*.scaling": "it suits numbers without a long tail; init takes log or quantile for "
    "others.",
    "model.dim": "an index stores this many numbers of each item; init takes 128 from 1,000 "
    "items on.",
    "model.dropout": "with many events nothing is overfitted; init raises it for small logs.",
    "model.norm": "towers of one or two layers train well without it.",
    "loss.temperature": "init takes it, or 0.1 where a history is in no order; tune it first.",
    "loss.candidates.kind": "items of the batch are popular ones; as many drawn from the corpus "
    "show the model the tail.",
    "loss.masked": "the query's own positives are no negatives, and leak the answer where a "
    "history has the others.",
    "loss.logq.strength": "it makes the softmax unbiased (Yi et al. 2019); less favours the tail.",
    "loss.id_dropout": "new items have no id that was trained, so a model must do without it now "
    "and then.",
    "loss.context_dropout": "requests may lack a context.",
    "ssl.method": "views that share correlated features would be too easily alike (Yao et al. "
    "2021); init takes neighbours, which find more, and none where items have but an id.",
    "ssl.alpha": "the main task decides; more may help the tail of logs with few events.",
    "ssl.items": "popular items are learned from events; the tail needs the rest.",
    "training.epochs": "patience ends most trainings earlier.",
    "training.batch_size": "a larger one has more negatives and is faster; a smaller one makes "
    "more steps of small logs.",
    "training.sparse_optimizer": "its state is one number a row, and rare rows still learn fast.",
    "training.weight_decay": "with many events nothing is overfitted; init raises it for small "
    "logs.",
    "training.precision": "bf16 is faster only where the processor has instructions for it.",
    "training.validations_per_epoch": "a validation ranks all items; init takes more where few "
    "epochs are the whole training.",
    "training.patience": "validation is noisy: one that is not better says little.",
    "training.averaging": "it costs a copy of the tables; init takes it, for it finds more.",
    "training.start": "what is trained from scratch can be compared with what was before.",
    "training.replay": "all examples forget nothing, and cost a whole training each day.",
    "sharding.row_wise_from": "smaller tables cost less on one rank than the exchange of parts.",
    "sharding.precision": "half precision of tables saves memory, which is rarely scarce before "
    "millions of rows.",
    "tuning.confirm_seeds": "the best of many noisy values is partly luck.",
    "ranking.tail_weight": "a search that is judged by hits alone loses the tail.",
    "evaluation.select_by": "it judges the candidates that a later stage would rank; init takes "
    "ndcg@10 where 50 items are much of the catalogue.",
    "evaluation.baselines": "which of them is the best differs from log to log.",
    "export.min_ann_recall": "no ranking brings back what the index misses.",
    "export.index": "exact search is fast enough below 50,000 items.",
    "export.refit": "with a split by time, the evaluated model does not know the latest events.",
    "tracking.uri": "a file beside the output needs no server.",
    "feature_store.online": "files need no server; redis is shared by several machines.",
}

# Values of texts, and of numbers of which none follows from the default.
EXAMPLES = {
    "output": "runs/shop",
    "data.events": "logs/events",
    "data.items": "logs/items.parquet",
    "data.queries": "logs/users.parquet",
    "data.columns.query_id": "user_id",
    "data.columns.item_id": "product_id",
    "data.columns.query_key": "id",
    "data.columns.item_key": "id",
    "data.columns.timestamp": "created_at",
    "data.columns.rating": "stars",
    "data.columns.weight": "quantity",
    "data.columns.event_type": "action",
    "data.min_rating": "4",
    "data.event_types": "{view: 1, purchase: 5}",
    "data.split.validation": "7d",
    "data.split.test": "7d",
    "data.split.validation_from": "2026-11-08",
    "data.split.test_from": "2026-11-15",
    "data.split.column": "split",
    "features.*.name": "genres",
    "features.*.dim": "16",
    "features.*.shares": "item.genres",
    "features.*.delimiter": '"|"',
    "features.*.length": "512",
    "features.*.ngrams": "[3, 4]",
    "features.*.zone": "Europe/Paris",
    "features.*.hash_buckets": "65536",
    "model.item_tower": "[256, 128]",
    "model.query_tower": "[256, 128]",
    "study.baseline": "popularity",
    "study.label_fractions": "[1.0, 0.25]",
    "study.arms.*.values": "{ssl.method: rfm}",
    "tuning.space.*.low": "0.01",
    "tuning.space.*.high": "0.2",
    "tuning.space.*.choices": "[128, 256]",
    "evaluation.cutoffs": "[5, 10, 50]",
    "evaluation.slices": "[item.genres]",
    "evaluation.baselines": "[popularity, item_knn]",
    "ranking.channels": "[content]",
    "export.filters": "[genres]",
    "export.registered_model": "shop",
    "job.notify.webhook": "https://example.org/hook",
    "job.notify.textfile": "runs/shop.prom",
    "tracking.experiment": "shop",
    "tracking.uri": "http://127.0.0.1:5000",
    "feature_store.redis_url": "redis://127.0.0.1:6379/0",
    "feature_store.redis_prefix": "shop",
}
