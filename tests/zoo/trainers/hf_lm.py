"""Hugging Face's Trainer around a tiny GPT-2 made from its configuration: padding, next tokens, gradient checkpointing."""

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed


def sentences(count, seed):
    generator = torch.Generator().manual_seed(seed)
    sizes = torch.randint(6, 15, (count,), generator=generator).tolist()
    return [{"input_ids": torch.randint(1, 32, (size,), generator=generator).tolist()} for size in sizes]


def collator(faults):
    def collate(rows):
        longest = max(len(row["input_ids"]) for row in rows)
        tokens = torch.tensor([row["input_ids"] + [0] * (longest - len(row["input_ids"])) for row in rows])
        mask = (tokens > 0).long()
        labels = tokens.clone()
        if "hf-padding-in-loss" not in faults:
            labels = labels.masked_fill(mask == 0, -100)
        if "hf-shifted-twice" in faults:  # the model shifts them itself
            labels = torch.cat([labels[:, 1:], torch.full_like(labels[:, :1], -100)], 1)
        return {"input_ids": tokens, "attention_mask": mask, "labels": labels}

    return collate


def train(run, faults=frozenset()):
    set_seed(run.seed)
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=32, n_positions=32, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    )
    arguments = TrainingArguments(
        output_dir=str(run.workdir / "gpt"), max_steps=run.max_steps, seed=run.seed, use_cpu=True, bf16=True,
        per_device_train_batch_size=2, gradient_accumulation_steps=2, gradient_checkpointing=True,
        learning_rate=1e-3, lr_scheduler_type="constant_with_warmup", warmup_steps=2, logging_steps=1, eval_strategy="steps", eval_steps=3, save_steps=3,
        save_total_limit=1, prediction_loss_only=True, report_to="none", disable_tqdm=True,
    )  # fmt: skip
    trainer = Trainer(
        model, arguments, data_collator=collator(faults), train_dataset=sentences(40, 1), eval_dataset=sentences(12, 2)
    )
    trainer.train(resume_from_checkpoint=str(run.resume_from) if run.resume_from else None)
    trainer.save_model()
