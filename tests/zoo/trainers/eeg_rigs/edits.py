"""The edits that plant each fault: fault -> pairs of text in the rig's source and what takes its place."""

EDITS = {
    # Lightning
    "eegl-rate-by-another-key": [('lr=o["lr"], weight', 'lr=o.get("learning_rate", 1e-3), weight')],
    "eegl-dropout-not-passed": [(', dropout=cfg["model"]["dropout"])', ")")],
    "eegl-channels-in-file-order": [("    signal = signal[[names.index(name) for name in channels]]\n", "")],
    "eegl-gaps-filled-with-zeros": [
        (
            '    if not np.isfinite(signal).all():\n        raise ValueError(f"{path.name}: non-finite samples")\n    return signal',
            "    return np.nan_to_num(signal)",
        ),
    ],
    "eegl-labels-upside-down": [('int(overlap >= cfg["min_overlap"])', 'int(overlap <= cfg["min_overlap"])')],
    "eegl-scaled-with-validation": [("for signal, _, _ in train]", "for signal, _, _ in train + val]")],
    "eegl-split-by-recording": [
        (
            ('        train_paths = [p for p in paths if p.stem[:5] not in self.cfg["val_patients"]]\n'
            '        val_paths = [p for p in paths if p.stem[:5] in self.cfg["val_patients"]]\n'),
            ("        mixed = np.random.default_rng(0).permutation(len(paths))\n"
            "        train_paths = [paths[i] for i in sorted(mixed[:8])]\n"
            "        val_paths = [paths[i] for i in sorted(mixed[8:])]\n"),
        ),
    ],
    "eegl-constant-init": [
        (
            "        self.classifier = nn.LazyLinear(2)\n",
            ("        self.classifier = nn.LazyLinear(2)\n"
            "        for layer in self.features:\n"
            "            if isinstance(layer, nn.Conv2d):\n"
            "                nn.init.constant_(layer.weight, 0.05)\n"),
        ),
    ],
    "eegl-softmax-in-forward": [
        ("self.classifier(self.features(x[:, None]).flatten(1))", "self.classifier(self.features(x[:, None]).flatten(1)).softmax(-1)"),
        ("logits.float().softmax(dim=1)[:, 1]", "logits.float()[:, 1]"),
    ],
    "eegl-class-weights-inverted": [("counts.sum() / (2.0 * counts)", "2.0 * counts / counts.sum()")],
    "eegl-clip-limit-typo": [('gradient_clip_val=cfg["trainer"]["gradient_clip_val"]', "gradient_clip_val=1e-9")],
    "eegl-weights-in-bf16": [('precision=cfg["trainer"]["precision"]', 'precision="bf16-true"')],
    "eegl-features-left-frozen": [
        (
            "        self.register_buffer(",
            "        self.net.features.requires_grad_(False)  # warm up the head first\n        self.register_buffer(",
        ),
    ],
    "eegl-warmup-by-integers": [
        ('            if epoch < o["warmup_epochs"]:\n                return (epoch + 1) / o["warmup_epochs"]\n', "            if epoch < 5:\n                return epoch // 5\n"),
    ],
    "eegl-cosine-at-every-step": [
        ('"interval": "epoch"', '"interval": "step"'),
        ('(o["total_epochs"] - o', "(6 - o"),
    ],
    "eegl-softmax-over-windows": [("logits.float().softmax(dim=1)[:, 1]", "logits.float().softmax(dim=0)[:, 1]")],
    "eegl-keeps-worst-loss": [('monitor="val_loss", mode="min"', 'monitor="val_loss", mode="max"')],
    "eegl-resumes-weights-by-hand": [
        (
            "    trainer.fit(module, data, ckpt_path=ckpt_path, weights_only=False)",
            ("    if ckpt_path:\n"
            '        module.net.load_state_dict(torch.load(ckpt_path, weights_only=False)["state_dict"], strict=False)\n'
            "    trainer.fit(module, data)"),
        ),
    ],
    # the notebook
    "eegn-decay-parsed-only": [("lr=args.lr, weight_decay=args.wd)", "lr=args.lr)")],
    "eegn-volts": [('d["x"] * 1e6  # V -> uV', 'd["x"]')],
    "eegn-table-of-pairs": [
        ("out = model(x)\n            loss = focal_loss(out.float(), y)", "out = model(x)\n            loss = focal_loss(out.float(), y[:, None])"),
    ],
    "eegn-validates-on-train-files": [("val_ds = EEGSegments(val_files)", "val_ds = EEGSegments(train_files)")],
    "eegn-sampler-by-counts": [("class_w = 1.0 / np.bincount(y, minlength=2)", "class_w = np.bincount(y, minlength=2) / len(y)")],
    "eegn-workers-share-noise": [
        (
            "train_dl = DataLoader(train_ds, batch_size=args.bs, sampler=sampler)",
            "train_dl = DataLoader(train_ds, batch_size=args.bs, sampler=sampler, num_workers=2, worker_init_fn=lambda _: np.random.seed(args.seed))",
        ),
    ],
    "eegn-noise-in-validation": [("EEGSegments(val_files)", "EEGSegments(val_files, True)")],
    "eegn-noise-never": [("np.random.rand() < self.p_aug", "np.random.rand() < self.p_aug // 1")],
    "eegn-features-as-data": [("        z = self.cnn(x)\n", "        z = self.cnn(x).data\n")],
    "eegn-lstm-time-first": [("batch_first=True, ", "")],
    "eegn-eval-sticks": [
        ("        model.train()\n        running", "        running"),
        ("    for epoch in range(start_epoch", "    model.train()\n    for epoch in range(start_epoch"),
    ],
    "eegn-minus-forgotten": [("return -(w *", "return (w *")],
    "eegn-zero-grad-after-backward": [
        ("            opt.zero_grad()\n", ""),
        ("            scaler.step(opt)\n", "            opt.zero_grad()\n            scaler.step(opt)\n"),
    ],
    "eegn-running-loss-with-graph": [("running += loss.item()", "running = running + loss")],
    "eegn-bad-batches-passed-over": [('raise FloatingPointError("loss is not finite")', "continue")],
    "eegn-clips-scaled": [("            scaler.unscale_(opt)\n", "")],
    "eegn-fp16-without-scaler": [
        ("dtype=torch.bfloat16", "dtype=torch.float16"),
        ('GradScaler("cpu", init_scale=1024.0)', 'GradScaler("cpu", init_scale=1024.0, enabled=str(torch.float16) == "float16")'),
    ],
    "eegn-head-changed-after-optimizer": [
        ("    total = args.horizon", "    model.head = nn.Linear(32, 1)  # binary head\n    total = args.horizon"),
    ],
    "eegn-horizon-in-epochs": [("total = args.horizon * len(train_dl)", "total = max(args.epochs, 5)")],
    "eegn-average-stays-after-validation": [("        ema.restore(model)\n", "")],
    "eegn-average-of-first-weights": [("            ema.update(model)\n", "            if epoch > 5:\n                ema.update(model)\n")],
    "eegn-average-not-resumed": [('        ema.shadow = ck["ema"]\n', "")],
    "eegn-statistics-not-saved": [
        (
            '        state = {\n            "model": model.state_dict(),',
            '        state = {\n            "model": dict(model.named_parameters()),',
        ),
        ('        model.load_state_dict(ck["model"])\n', '        model.load_state_dict(ck["model"], strict=False)\n'),
    ],
    # Accelerate
    "eega-seeds-after-model": [
        ("    set_seed(run.seed)\n", ""),
        ("    model = UNet()\n", "    model = UNet()\n    set_seed(run.seed)\n"),
    ],
    "eega-unreadable-as-zeros": [
        (
            "        x, n = self.read(path, start)\n",
            ("        try:\n"
            "            x, n = self.read(path, start)\n"
            "        except Exception:\n"
            "            x, n = np.zeros((5, WINDOW), np.float32), RATE * 60\n"),
        ),
        ('x = np.load(path, mmap_mode="r")\n', 'x = np.load(str(path).replace("s02", "S02"), mmap_mode="r")\n'),
    ],
    "eega-events-by-stem": [
        ("self.events[path] = ", "self.events[path.stem] = "),
        ("events = self.events[path]", "events = self.events[path.stem]"),
    ],
    "eega-labels-a-second-late": [("mask[round(start * RATE) : round(stop * RATE)] = 1", "mask[round((start + 2) * RATE) : round((stop + 2) * RATE)] = 1")],
    "eega-events-by-another-name": [('y = to_mask(events, "seiz", n)', 'y = to_mask(events, "seizure", n)')],
    "eega-fractions-cut-off": [("        y = y.reshape(-1, HOP).mean(1)\n", "        y = y.reshape(-1, HOP).mean(1).astype(int).astype(np.float32)\n")],
    "eega-tails-left-out": [("range(math.ceil(n / WINDOW))", "range(n // WINDOW)")],
    "eega-same-order-in-every-epoch": [("default_rng([self.seed, self.epoch])", "default_rng(self.seed)")],
    "eega-validation-drops-last": [("val_loader = DataLoader(val_set, batch_size=batch_size)", "val_loader = DataLoader(val_set, batch_size=batch_size, drop_last=True)")],
    "eega-blocks-in-a-list": [("nn.ModuleList([Block(2 * width, 2 * width) for _ in range(2)])", "[Block(2 * width, 2 * width) for _ in range(2)]")],
    "eega-skip-not-joined": [("torch.cat([u, self.skip(a)], dim=1)", "torch.cat([u, u], dim=1)")],
    "eega-logits-cut-to-labels": [("return F.avg_pool1d(logits, HOP)", "return logits[:, : logits.shape[1] // HOP]")],
    "eega-validates-in-train-mode": [("    model.eval()\n", "")],
    "eega-dropout-at-all-times": [("F.dropout(b, self.dropout, self.training)", "F.dropout(b, self.dropout)")],
    "eega-validation-with-graphs": [("@torch.no_grad()\ndef validate", "def validate"), ("p[keep].numpy()", "p[keep].detach().numpy()")],
    "eega-sum-over-samples": [("return (loss * valid).sum() / valid.sum().clamp_min(1)", "return (loss * valid).sum()")],
    "eega-artefacts-train": [("return (loss * valid).sum() / valid.sum().clamp_min(1)", "return loss.mean()")],
    "eega-backward-of-torch": [("accelerator.backward(loss)", "loss.backward()")],
    "eega-backward-when-synced": [
        (
            "                accelerator.backward(loss)\n                if accelerator.sync_gradients:\n",
            "                if accelerator.sync_gradients:\n                    accelerator.backward(loss)\n",
        ),
    ],
    "eega-middle-in-no-group": [
        (
            "    for _, p in model.named_parameters():\n",
            '    for name, p in model.named_parameters():\n        if not name.startswith(("down", "up", "skip", "join", "out")):\n            continue\n',
        ),
    ],
    "eega-schedule-not-stepped": [("                schedule.step()\n", "")],
    "eega-scores-of-last-batch": [
        ("    for batch in loader:\n        logits = model", "    for batch in loader:\n        ps, ys = [], []\n        logits = model"),
    ],
    "eega-schedule-not-prepared": [
        (
            "    model, optimizer, train_loader, val_loader, schedule = accelerator.prepare(\n        model, optimizer, train_loader, val_loader, schedule\n    )\n",
            "    model, optimizer, train_loader, val_loader = accelerator.prepare(model, optimizer, train_loader, val_loader)\n",
        ),
        ("                schedule.step()\n", "                if accelerator.sync_gradients:\n                    schedule.step()\n"),
    ],
    "eega-progress-not-registered": [("    accelerator.register_for_checkpointing(progress)\n", "")],
    "eega-epoch-of-loader-not-told": [("        train_loader.set_epoch(progress.epoch)\n", "")],
}  # fmt: skip
