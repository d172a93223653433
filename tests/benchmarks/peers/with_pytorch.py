"""A two-tower model in plain PyTorch: a Dataset, a DataLoader and a loop."""

import torch
import torch.nn.functional as F
from meter import BATCH, DIM, HIDDEN, TEMPERATURE, Data, Meter, arguments
from torch import nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler


class Examples(Dataset):
    def __init__(self, data):
        self.pairs = torch.from_numpy(data.train).long()
        self.query, self.item, self.multi = (
            torch.from_numpy(part).long() for part in (data.query, data.item, data.multi)
        )
        self.log_q = torch.from_numpy(data.log_q())

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, rows):
        query, item = self.pairs[rows].T
        return self.queries(query), self.items(item), self.log_q[item]

    def queries(self, rows):
        return torch.cat([rows[:, None], self.query[rows]], dim=1)

    def items(self, rows):
        return torch.cat([rows[:, None], self.item[rows]], dim=1), self.multi[rows]


class TwoTowers(nn.Module):
    def __init__(self, data):
        super().__init__()
        queries = [data.queries, *(data.query.max(axis=0) + 1)]
        items = [data.items, *(data.item.max(axis=0) + 1)]
        self.query, self.item = (
            nn.ModuleList(nn.Embedding(size, DIM, sparse=True) for size in sizes)
            for sizes in (queries, items)
        )
        size = int(data.multi.max()) + 1
        self.multi = nn.EmbeddingBag(size, DIM, mode="mean", padding_idx=0, sparse=True)
        for table in (*self.query, *self.item, self.multi):
            nn.init.normal_(table.weight, std=0.05)
        self.query_tower, self.item_tower = (
            nn.Sequential(nn.Linear(DIM * count, HIDDEN[0]), nn.ReLU(), nn.Linear(*HIDDEN))
            for count in (len(queries), len(items) + 1)
        )

    def queries(self, values):
        parts = [table(values[:, place]) for place, table in enumerate(self.query)]
        return F.normalize(self.query_tower(torch.cat(parts, dim=1)))

    def items(self, values, multi):
        parts = [table(values[:, place]) for place, table in enumerate(self.item)]
        return F.normalize(self.item_tower(torch.cat([*parts, self.multi(multi)], dim=1)))

    def forward(self, query, item, log_q):
        logits = self.queries(query) @ self.items(*item).T / TEMPERATURE - log_q
        return F.cross_entropy(logits, torch.arange(len(logits)))


given = arguments()
torch.set_num_threads(1)
data = Data(given.data)
meter = Meter(data, given.steps, given.every, given.target)
torch.manual_seed(0)
examples = Examples(data)
sampler = BatchSampler(RandomSampler(examples), BATCH, drop_last=True)
loader = DataLoader(examples, sampler=sampler, batch_size=None)
model = TwoTowers(data)
tables = [*model.query.parameters(), *model.item.parameters(), *model.multi.parameters()]
towers = [*model.query_tower.parameters(), *model.item_tower.parameters()]
optimizers = torch.optim.Adagrad(tables, lr=0.05), torch.optim.AdamW(towers, lr=0.002)


def vectors():
    with torch.no_grad():
        items = model.items(*examples.items(torch.arange(data.items)))
        return model.queries(examples.queries(torch.arange(data.queries))).numpy(), items.numpy()


meter.vectors = vectors
while not meter.is_done:
    for query, item, log_q in meter.over(loader):
        for optimizer in optimizers:
            optimizer.zero_grad()
        model(query, item, log_q).backward()
        for optimizer in optimizers:
            optimizer.step()
meter.write(given.result, version=torch.__version__)
