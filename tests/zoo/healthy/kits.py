"""Lightning and Transformers in ways of their own: overfitting on purpose, teachers, manual steps, masks, sequences."""

import copy

import lightning as L
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset


def lightning(run, model, train_set, validation_set, **options):
    L.seed_everything(run.seed)
    options = {"max_epochs": 2, "log_every_n_steps": 1, **options}
    trainer = L.Trainer(
        accelerator="cpu", devices=1, default_root_dir=run.workdir, logger=False, enable_progress_bar=False,
        enable_model_summary=False, **options,
    )  # fmt: skip
    loaders = DataLoader(train_set, 8, shuffle=True), DataLoader(validation_set, 8)
    trainer.fit(model(), *loaders, ckpt_path=run.resume_from)


def points(count, seed):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(count, 8, generator=generator)
    return TensorDataset(x, x[:, :1] * 2)


class Regression(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))

    def training_step(self, batch, index):
        return F.mse_loss(self.net(batch[0]), batch[1])

    def validation_step(self, batch, index):
        self.log("val_loss", F.mse_loss(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 1e-2)


def overfits_a_batch(run):
    lightning(run, Regression, points(24, 1), points(16, 2), overfit_batches=1, max_epochs=run.max_steps)


class Byol(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.online = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8))
        self.teacher = copy.deepcopy(self.online).requires_grad_(False)
        self.predictor = nn.Linear(8, 8)

    def training_step(self, batch, index):
        x = batch[0]
        with torch.no_grad():
            wanted = self.teacher(x.roll(1, -1))
        return 1 - F.cosine_similarity(self.predictor(self.online(x)), wanted).mean()

    def on_train_batch_end(self, *rest):
        with torch.no_grad():
            for slow, fast in zip(self.teacher.parameters(), self.online.parameters(), strict=True):
                slow.lerp_(fast, 0.1)

    def validation_step(self, batch, index):
        self.log("spread", self.teacher(batch[0]).std())

    def configure_optimizers(self):
        return torch.optim.SGD([*self.online.parameters(), *self.predictor.parameters()], 0.05, momentum=0.9)


def teacher_with_statistics(run):
    lightning(run, Byol, points(24, 1), points(16, 2))


class Gan(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 8))
        self.critic = nn.Sequential(nn.Linear(8, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))

    def training_step(self, batch, index):
        real = batch[0]
        first, second = self.optimizers()
        fake = self.generator(torch.randn(len(real), 4))
        self.toggle_optimizer(second)
        loss = F.softplus(self.critic(fake.detach())).mean() + F.softplus(-self.critic(real)).mean()
        second.zero_grad()
        self.manual_backward(loss)
        second.step()
        self.untoggle_optimizer(second)
        self.toggle_optimizer(first)
        loss = F.softplus(-self.critic(self.generator(torch.randn(len(real), 4)))).mean()
        first.zero_grad()
        self.manual_backward(loss)
        first.step()
        self.untoggle_optimizer(first)

    def validation_step(self, batch, index):
        self.log("realness", self.critic(batch[0]).mean())

    def configure_optimizers(self):
        return [torch.optim.Adam(part.parameters(), 1e-3, betas=(0.5, 0.9)) for part in (self.generator, self.critic)]


def manual_gan(run):
    lightning(run, Gan, points(24, 1), points(16, 2))


class Segments(Dataset):
    def __init__(self, count, seed):
        self.x = torch.randn(count, 4, 24, generator=torch.Generator().manual_seed(seed))
        self.mask = (self.x[:, 0] > 2).float()

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return {"x": self.x[index], "mask": self.mask[index]}


class Segmenter(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Conv1d(4, 8, 3, padding=1), nn.GELU(), nn.Conv1d(8, 1, 1))

    def forward(self, x, mask=None):
        logits = self.net(x).squeeze(1)
        return (logits,) if mask is None else (F.binary_cross_entropy_with_logits(logits, mask), logits)


def hf_masks(run):
    from transformers import Trainer, TrainingArguments, set_seed

    def overlap(prediction):
        found, wanted = prediction.predictions > 0, prediction.label_ids > 0
        return {"f1": 2 * float((found & wanted).sum()) / max(1, int(found.sum() + wanted.sum()))}

    set_seed(run.seed)
    arguments = TrainingArguments(
        output_dir=str(run.workdir), max_steps=run.max_steps, seed=run.seed, use_cpu=True, label_names=["mask"],
        per_device_train_batch_size=8, per_device_eval_batch_size=8, learning_rate=1e-3, save_steps=3,
        eval_strategy="steps", eval_steps=3, report_to="none", disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(
        Segmenter(), arguments, train_dataset=Segments(32, 1), eval_dataset=Segments(12, 2), compute_metrics=overlap
    )
    trainer.train(resume_from_checkpoint=str(run.resume_from) if run.resume_from else None)


def hf_sequences(run):
    from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, T5Config, T5ForConditionalGeneration, set_seed

    def rows(count, seed):
        generator = torch.Generator().manual_seed(seed)
        tokens = torch.randint(2, 32, (count, 12), generator=generator)
        lengths = torch.randint(6, 13, (count, 2), generator=generator)
        places = torch.arange(12)
        read, said = (places < lengths[:, :1]), (places < lengths[:, 1:])
        return [
            {
                "input_ids": tokens[row] * read[row],
                "attention_mask": read[row].long(),
                "labels": tokens[row].flip(0).masked_fill(~said[row], -100),
            }
            for row in range(count)
        ]

    def exact(prediction):
        return {"samples": len(prediction.label_ids)}

    set_seed(run.seed)
    model = T5ForConditionalGeneration(
        T5Config(
            vocab_size=32, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=0,
            pad_token_id=0, eos_token_id=1,
        )
    )  # fmt: skip
    arguments = Seq2SeqTrainingArguments(
        output_dir=str(run.workdir), max_steps=run.max_steps, seed=run.seed, use_cpu=True, predict_with_generate=True,
        generation_max_length=14, per_device_train_batch_size=8, learning_rate=1e-3, save_steps=3,
        eval_strategy="steps", eval_steps=3, report_to="none", disable_tqdm=True,
    )  # fmt: skip
    trainer = Seq2SeqTrainer(
        model, arguments, train_dataset=rows(32, 1), eval_dataset=rows(12, 2), compute_metrics=exact
    )
    trainer.train()
