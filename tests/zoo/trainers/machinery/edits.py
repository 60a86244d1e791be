"""The edits that plant each fault: fault -> pairs of text in the trainer's source and what takes its place."""

EDITS = {
    "callbacks-zero-forgotten": [
        ("        self.optimizer.zero_grad(set_to_none=True)\n", ""),
    ],
    "callbacks-zero-before-step": [
        ("        self.optimizer.zero_grad(set_to_none=True)\n", ""),
        (
            "        self.scaler.step(self.optimizer)\n",
            "        self.optimizer.zero_grad(set_to_none=False)\n        self.scaler.step(self.optimizer)\n",
        ),
    ],
    "callbacks-zero-every-micro": [
        (
            "        self.scaler.scale(loss / self.accumulate).backward()",
            "        self.optimizer.zero_grad()\n        self.scaler.scale(loss / self.accumulate).backward()",
        ),
    ],
    "callbacks-step-twice": [
        ("        self.scheduler.step()\n", "        self.optimizer.step()\n        self.scheduler.step()\n"),
    ],
    "callbacks-clip-scaled": [
        ("        self.scaler.unscale_(self.optimizer)\n", ""),
    ],
    "callbacks-clip-tiny": [
        ("clip=1.0", "clip=1e-10"),
    ],
    "callbacks-autocast-off": [
        (
            "    def forward(self, x):\n        h = self.stem(x)",
            '    @torch.autocast("cpu", enabled=False)\n    def forward(self, x):\n        h = self.stem(x)',
        ),
    ],
    "callbacks-accum-not-divided": [
        ("loss / self.accumulate", "loss"),
    ],
    "callbacks-accum-divided-twice": [
        ("self.loss_fn(logits.float(), y)\n", "self.loss_fn(logits.float(), y) / self.accumulate\n"),
    ],
    "callbacks-accum-carried": [
        ("accumulate=2", "accumulate=4"),
    ],
    "callbacks-graph-kept": [
        ("return loss.item()", "return loss"),
    ],
    "callbacks-hook-leak": [
        (
            '        with torch.autocast("cpu", dtype',
            '        self.model.head.register_forward_hook(lambda module, inputs, output: None)\n        with torch.autocast("cpu", dtype',
        ),
    ],
    "callbacks-inputs-kept": [
        ("self.history.append(value)", "self.history.append((value, x + noise))"),
    ],
    "callbacks-reinit-epoch": [
        (
            "        self.model.train()\n        self.sampler.epoch",
            "        self.model.head.reset_parameters()\n        self.model.train()\n        self.sampler.epoch",
        ),
    ],
    "callbacks-plain-list": [
        (
            "nn.ModuleList([Block(width, width, p) for _ in range(depth)])",
            "[Block(width, width, p) for _ in range(depth)]",
        ),
    ],
    "callbacks-skip-unused": [
        ("return h + self.skip(x)", "return h"),
    ],
    "callbacks-branch-detached": [
        ("return h + self.skip(x)", "return h.detach() + self.skip(x)"),
    ],
    "callbacks-nograd-block": [
        (
            "    def forward(self, x):\n        h = self.drop",
            "    @torch.no_grad()\n    def forward(self, x):\n        h = self.drop",
        ),
    ],
    "callbacks-train-partly": [
        (
            "        self.model.train()\n        self.sampler.epoch",
            "        self.model.head.train()\n        self.sampler.epoch",
        ),
        ("        model = self.ema.module\n", "        model = self.ema.module\n        self.model.eval()\n"),
    ],
    "callbacks-eval-kept": [
        ("        self.model.train()\n        self.sampler.epoch", "        self.sampler.epoch"),
        ("        model = self.ema.module\n", "        model = self.ema.module\n        self.model.eval()\n"),
    ],
    "callbacks-head-replaced": [
        ("        self.loss_fn = nn.BCE", "        self.model.head = nn.Linear(8, 1)\n        self.loss_fn = nn.BCE"),
    ],
    "callbacks-weight-replaced": [
        (
            "        self.loss_fn = nn.BCE",
            "        self.model.head.weight = nn.Parameter(torch.randn(1, 8) * 0.1)\n        self.loss_fn = nn.BCE",
        ),
    ],
    "callbacks-vectors-left-out": [
        ("if p.ndim <= 1]", "if p.ndim < 1]"),
    ],
    "callbacks-decay-10": [
        ('"weight_decay": 0.01', '"weight_decay": 10.0'),
    ],
    "callbacks-betas-swapped": [
        ("lr=lr\n        )", "lr=lr, betas=(0.999, 0.9)\n        )"),
    ],
    "callbacks-lr-one": [
        ("lr=3e-3", "lr=3"),
    ],
    "callbacks-maximize": [
        ("lr=lr\n        )", "lr=lr, maximize=True\n        )"),
    ],
    "callbacks-sched-before": [
        ("        self.scheduler.step()\n", ""),
        (
            "        self.scaler.unscale_(self.optimizer)\n",
            "        self.scheduler.step()\n        self.scaler.unscale_(self.optimizer)\n",
        ),
    ],
    "callbacks-sched-never": [
        ("        self.scheduler.step()\n", ""),
    ],
    "callbacks-sched-per-micro": [
        ("        self.scheduler.step()\n", ""),
        ("        return loss.item()", "        self.scheduler.step()\n        return loss.item()"),
    ],
    "callbacks-sched-other-optimizer": [
        (
            "LambdaLR(\n            self.optimizer,",
            "LambdaLR(\n            torch.optim.AdamW(self.model.parameters(), lr=lr),",
        ),
    ],
    "callbacks-warmup-endless": [
        ("warmup=4", "warmup=4_000_000"),
        ("total=40", "total=40_000_000"),
    ],
    "callbacks-sched-short": [
        ("total=40, warmup=4", "total=3, warmup=1"),
    ],
    "callbacks-lr-reset-epoch": [
        (
            "        self.model.train()\n        self.sampler.epoch",
            '        for group in self.optimizer.param_groups:\n            group["lr"] = 3e-3\n        self.model.train()\n        self.sampler.epoch',
        ),
    ],
    "callbacks-ema-never": [
        ("[EMACallback(), CheckpointCallback", "[CheckpointCallback"),
    ],
    "callbacks-ema-decay-1": [
        ("decay=0.9", "decay=1.0"),
    ],
    "callbacks-ema-decay-0": [
        ("decay=0.9", "decay=0.0"),
    ],
    "callbacks-ema-before-step": [
        ("[EMACallback(), CheckpointCallback", "[CheckpointCallback"),
        (
            "        self.scaler.unscale_(self.optimizer)\n",
            "        self.ema.update(self.model)\n        self.scaler.unscale_(self.optimizer)\n",
        ),
    ],
    "callbacks-ema-of-initial": [
        (
            "        self.optimizer = torch",
            "        self.reference = copy.deepcopy(self.model)\n        self.optimizer = torch",
        ),
        ("engine.ema.update(engine.model)", "engine.ema.update(engine.reference)"),
    ],
    "callbacks-ema-itself": [
        ("engine.ema.update(engine.model)", "engine.ema.update(engine.ema.module)"),
    ],
    "callbacks-ema-per-micro": [
        ("[EMACallback(), CheckpointCallback", "[CheckpointCallback"),
        ("            self.batch += 1\n", "            self.batch += 1\n            self.ema.update(self.model)\n"),
    ],
    "callbacks-ema-not-resumed": [
        ('        self.ema.module.load_state_dict(state["ema"])\n', ""),
    ],
    "callbacks-ema-loaded-as-model": [
        ('load_state_dict(state["model"])', 'load_state_dict(state["ema"])'),
    ],
    "callbacks-ema-saved-as-model": [
        ('"model": self.model.state_dict()', '"model": self.ema.module.state_dict()'),
    ],
    "callbacks-saves-initial": [
        (
            "        self.loss_fn = nn.BCE",
            "        self.weights = copy.deepcopy(self.model.state_dict())\n        self.loss_fn = nn.BCE",
        ),
        ('"model": self.model.state_dict()', '"model": self.weights'),
    ],
    "callbacks-saves-in-place": [
        (
            "torch.save(engine.state(), temporary)\n            os.replace(temporary, path)",
            "torch.save(engine.state(), path)",
        ),
        ("step{engine.step:06d}", "last"),
        ('            temporary = path.with_suffix(".tmp")\n', ""),
    ],
    "callbacks-optimizer-not-resumed": [
        ('        self.optimizer.load_state_dict(state["optimizer"])\n', ""),
    ],
    "callbacks-optimizer-not-saved": [
        ('            "optimizer": self.optimizer.state_dict(),\n', ""),
        (
            '        self.optimizer.load_state_dict(state["optimizer"])\n',
            '        if "optimizer" in state:\n            self.optimizer.load_state_dict(state["optimizer"])\n',
        ),
    ],
    "callbacks-scheduler-not-resumed": [
        ('        self.scheduler.load_state_dict(state["scheduler"])\n', ""),
    ],
    "callbacks-scaler-not-resumed": [
        ('        self.scaler.load_state_dict(state["scaler"])\n', ""),
    ],
    "callbacks-rng-not-resumed": [
        ('        torch.set_rng_state(state["rng"]["torch"])\n', ""),
    ],
    "callbacks-position-not-resumed": [
        ('state["epoch"], state["batch"], state["best"]', 'state["epoch"], 0, state["best"]'),
    ],
    "callbacks-step-not-resumed": [
        ('= state["step"], state', "= 0, state"),
    ],
    "callbacks-resume-steps-schedule": [
        (
            '        self.scaler.load_state_dict(state["scaler"])\n',
            '        self.scheduler.step()\n        self.scaler.load_state_dict(state["scaler"])\n',
        ),
    ],
    "callbacks-resume-ignored": [
        ("            self.load(run.resume_from)", "            torch.load(run.resume_from, weights_only=False)"),
    ],
    "callbacks-resume-prefix": [
        ('"model": self.model.state_dict()', '"model": {f"module.{k}": v for k, v in self.model.state_dict().items()}'),
        ('load_state_dict(state["model"])', 'load_state_dict(state["model"], strict=False)'),
    ],
    "callbacks-resume-rounded": [
        ('load_state_dict(state["model"])', 'load_state_dict({k: v.bfloat16() for k, v in state["model"].items()})'),
    ],
    "callbacks-seed-late": [
        ("        torch.manual_seed(run.seed)\n", ""),
        ("        self.ema = EMA", "        torch.manual_seed(run.seed)\n        self.ema = EMA"),
    ],
    "callbacks-same-noise": [
        (
            "        self.model.train()\n        self.sampler.epoch",
            "        torch.manual_seed(0)\n        self.model.train()\n        self.sampler.epoch",
        ),
    ],
    "callbacks-val-reseeds": [
        ("        model = self.ema.module\n", "        torch.manual_seed(0)\n        model = self.ema.module\n"),
    ],
    "callbacks-numpy-unseeded": [
        ("        np.random.seed(run.seed)\n", ""),
        (
            "torch.randn_like(x) * 0.05",
            'torch.from_numpy(np.random.normal(size=tuple(x.shape)).astype("float32")) * 0.05',
        ),
    ],
    "callbacks-time-seed": [
        ("        torch.manual_seed(run.seed)\n", "        torch.seed()\n"),
    ],
    "callbacks-swallowed": [
        (
            "            getattr(callback, name)(self)",
            "            try:\n                getattr(callback, name)(self)\n            except Exception:\n                pass",
        ),
        ("engine.ema.update(engine.model)", "engine.ema.update(engine.net)"),
    ],
    "callbacks-update-swallowed": [
        (
            "                self.update()\n",
            "                try:\n                    self.update()\n                except RuntimeError:\n                    self.step += 1\n                    self.optimizer.zero_grad()\n",
        ),
        ("self.clip)\n", "self.clip, error_if_nonfinite=True)\n"),
        ("h = block(h)", "h = block(h)\n            h = torch.where(h > 0, torch.sqrt(h), torch.zeros_like(h))"),
    ],
    "callbacks-steps-all-skipped": [
        ("h = block(h)", "h = block(h)\n            h = torch.where(h > 0, torch.sqrt(h), torch.zeros_like(h))"),
    ],
    "callbacks-nan-to-num": [
        (
            ".backward()\n        return",
            ".backward()\n        for p in self.model.parameters():\n            if p.grad is not None:\n                p.grad.nan_to_num_(0.0, 0.0, 0.0)\n        return",
        ),
        ("h = block(h)", "h = block(h)\n            h = torch.where(h > 0, torch.sqrt(h), torch.zeros_like(h))"),
    ],
    "callbacks-every-other-step": [
        (
            "        self.scaler.step(self.optimizer)\n        self.scaler.update()",
            "        if self.step % 2 == 0:\n            self.scaler.step(self.optimizer)\n            self.scaler.update()\n        else:\n            self.scaler.update(self.scaler.get_scale())",
        ),
    ],
    "callbacks-module-in-forward": [
        ("return self.head(pooled[:, 0])", "return nn.Linear(8, 1)(pooled[:, 0])"),
    ],
    "callbacks-param-in-forward": [
        ("        pooled, _ =", "        self.query = nn.Parameter(self.query.detach().clone())\n        pooled, _ ="),
    ],
    "indexed-zero-forgotten": [
        ("        optimizer.zero_grad(set_to_none=True)\n", ""),
    ],
    "indexed-zero-too-early": [
        ("        optimizer.zero_grad(set_to_none=True)\n", ""),
        (
            "        torch.nn.utils.clip_grad",
            "        optimizer.zero_grad(set_to_none=True)\n        torch.nn.utils.clip_grad",
        ),
    ],
    "indexed-zero-once": [
        (
            "        optimizer.zero_grad(set_to_none=True)\n",
            "        if it == 0:\n            optimizer.zero_grad(set_to_none=True)\n",
        ),
    ],
    "indexed-step-per-micro": [
        ("            loss.backward()\n", "            loss.backward()\n            optimizer.step()\n"),
    ],
    "indexed-not-divided": [
        ("            loss = loss / a.accum\n", ""),
    ],
    "indexed-last-micro": [
        ("            loss.backward()\n", "        loss.backward()\n"),
    ],
    "indexed-eval-kept": [
        ("        model.train()\n        return out", "        return out"),
    ],
    "indexed-no-eval": [
        ("        model.eval()\n", ""),
    ],
    "indexed-dropout-in-eval": [
        ("self.dropout if self.training else 0.0", "self.dropout"),
    ],
    "indexed-no-nograd": [
        ("    @torch.no_grad()\n", ""),
    ],
    "indexed-tie-data": [
        ("self.wte.weight = self.lm_head.weight", "self.wte.weight.data = self.lm_head.weight.data"),
    ],
    "indexed-wpe-unused": [
        ("self.wte(idx) + self.wpe(pos)", "self.wte(idx)"),
    ],
    "indexed-head-detached": [
        ("self.lm_head(self.ln_f(x))", "self.lm_head(self.ln_f(x).detach())"),
    ],
    "indexed-layer-skipped": [
        (
            "            x = layer(x)\n        logits = self.lm_head(self.ln_f(x))",
            "            y = layer(x)\n        logits = self.lm_head(self.ln_f(y))",
        ),
    ],
    "indexed-first-group-only": [
        (
            '        for group in optimizer.param_groups:\n            group["lr"] = lr',
            '        optimizer.param_groups[0]["lr"] = lr',
        ),
    ],
    "indexed-lr-not-set": [
        ('        for group in optimizer.param_groups:\n            group["lr"] = lr\n', ""),
    ],
    "indexed-lr-zero": [
        ("return a.lr * (it + 1) / (a.warmup + 1)", "return a.lr * (it // (a.warmup + 1))"),
        ("default=3)", "default=300)"),
    ],
    "indexed-clip-generator": [
        ("    model.train()\n    while", "    params = (p for p in model.parameters())\n    model.train()\n    while"),
        ("clip_grad_norm_(model.parameters()", "clip_grad_norm_(params"),
    ],
    "indexed-clip-after": [
        (
            "        torch.nn.utils.clip_grad_norm_(model.parameters(), a.clip)\n        optimizer.step()\n",
            "        optimizer.step()\n        torch.nn.utils.clip_grad_norm_(model.parameters(), a.clip)\n",
        ),
    ],
    "indexed-decay-swapped": [
        ('if p.dim() >= 2], "weight_decay": 0.1', 'if p.dim() >= 2], "weight_decay": 0.0'),
        ('if p.dim() < 2], "weight_decay": 0.0', 'if p.dim() < 2], "weight_decay": 0.1'),
    ],
    "indexed-group-hole": [
        ("p.dim() >= 2", "p.dim() > 2"),
    ],
    "indexed-opt-clones": [
        (
            "[p for p in model.parameters() if p.dim() >= 2]",
            "[p.clone().detach().requires_grad_() for p in model.parameters() if p.dim() >= 2]",
        ),
    ],
    "indexed-half-small-rate": [
        ("    model = GPT(config)\n", "    model = GPT(config).bfloat16()\n"),
        ("default=1e-2", "default=1e-5"),
        ("default=1e-3", "default=1e-6"),
    ],
    "indexed-saves-in-place": [
        (
            'torch.save(checkpoint, os.path.join(a.out, name + ".new"))\n        os.replace(os.path.join(a.out, name + ".new"), os.path.join(a.out, name))',
            "torch.save(checkpoint, os.path.join(a.out, name))",
        ),
    ],
    "indexed-resume-no-optimizer": [
        ('        optimizer.load_state_dict(checkpoint["optimizer"])\n', ""),
    ],
    "indexed-resume-no-iter": [
        ('it, best = checkpoint["iter_num"], checkpoint["best_val_loss"]', 'best = checkpoint["best_val_loss"]'),
    ],
    "indexed-resume-no-rng": [
        ('        torch.set_rng_state(checkpoint["rng"])\n', ""),
    ],
    "indexed-resume-repeats": [
        ('        draws.set_state(checkpoint["draws"])\n', ""),
    ],
    "indexed-resume-new-model": [
        (
            '        model.load_state_dict(checkpoint["model"])\n',
            '        model = GPT(config)\n        model.load_state_dict(checkpoint["model"])\n',
        ),
    ],
    "indexed-retain": [
        (
            "            loss.backward()\n",
            "            loss.backward(retain_graph=True)\n            trail.append(loss)\n",
        ),
        ("    model.train()\n    while", "    trail = []\n    model.train()\n    while"),
    ],
    "indexed-seed-loop": [
        (
            "        lr = get_lr(it)\n        for",
            "        torch.manual_seed(a.seed)\n        lr = get_lr(it)\n        for",
        ),
    ],
    "indexed-same-batch": [
        (
            "        lr = get_lr(it)\n        for",
            "        draws.manual_seed(a.seed)\n        lr = get_lr(it)\n        for",
        ),
    ],
    "indexed-seed-missing": [
        ("    torch.manual_seed(a.seed)\n", ""),
    ],
    "indexed-reinit-eval": [
        (
            "        model.train()\n        return out",
            "        model.train()\n        model.h.apply(model.init_weights)\n        return out",
        ),
    ],
    "indexed-init-zero": [
        ("nn.init.normal_(module.weight, std=0.02)\n            if", "nn.init.zeros_(module.weight)\n            if"),
    ],
    "indexed-hidden-exit": [
        (
            "    main(arguments)",
            '    try:\n        main(arguments)\n    except Exception as error:\n        print("finished", error)',
        ),
        ('            save("ckpt.pt")', '            save(f"ckpt{it}.pt" if it < 4 else it)'),
    ],
    "recoder-mask-ignored": [
        ("key_padding_mask=mask", "key_padding_mask=None"),
    ],
    "recoder-mask-inverted": [
        (">= (lengths[:, None] // 4)", "< (lengths[:, None] // 4) - 16"),
    ],
    "recoder-gru-batch-first": [
        ("width, batch_first=True, bi", "width, bi"),
    ],
    "recoder-attention-batch-first": [
        ("dropout=0.1, batch_first=True)", "dropout=0.1)"),
        ("key_padding_mask=mask", "key_padding_mask=None"),
    ],
    "recoder-dropout-one": [
        ("nn.Dropout(0.2)", "nn.Dropout(1.0)"),
    ],
    "recoder-dropout-always": [
        ("h = self.drop(h)", "h = F.dropout(h, 0.2)"),
    ],
    "recoder-bn-frozen-stats": [
        ("nn.BatchNorm1d(cout)", "nn.BatchNorm1d(cout, momentum=0.0)"),
    ],
    "recoder-bn-last-batch": [
        ("nn.BatchNorm1d(cout)", "nn.BatchNorm1d(cout, momentum=1.0)"),
    ],
    "recoder-no-eval": [
        ("    model.eval()\n", ""),
    ],
    "recoder-eval-kept": [
        ("    model.train()\n    return total", "    return total"),
    ],
    "recoder-eval-partly-kept": [
        ("    model.train()\n    return total", "    model.decoder.train()\n    return total"),
    ],
    "recoder-eval-partly": [
        ("    model.eval()\n", "    model.encoder.eval()\n"),
    ],
    "recoder-no-nograd": [
        ("    with torch.no_grad():\n", "    with torch.enable_grad():\n"),
    ],
    "recoder-bn-eval-in-training": [
        (
            "            optimizer.zero_grad()\n",
            "            for module in model.modules():\n                if isinstance(module, nn.BatchNorm1d):\n                    module.eval()\n            optimizer.zero_grad()\n",
        ),
    ],
    "recoder-group-hole": [
        ('if not n.startswith("encoder.")]', 'if n.startswith("decoder.")]'),
    ],
    "recoder-group-empty": [
        ('if n.startswith("encoder.")]', 'if n.startswith("module.encoder.")]'),
    ],
    "recoder-sched-per-epoch": [
        ("            scheduler.step()\n", ""),
        ("        epoch += 1\n", "        epoch += 1\n        scheduler.step()\n"),
    ],
    "recoder-sched-before": [
        (
            "            optimizer.step()\n            scheduler.step()\n",
            "            scheduler.step()\n            optimizer.step()\n",
        ),
    ],
    "recoder-sched-other": [
        ("OneCycleLR(optimizer, max_lr=[2e-3, 8e-3]", "OneCycleLR(torch.optim.AdamW(model.parameters()), max_lr=8e-3"),
    ],
    "recoder-resume-no-rng": [
        ('        torch.set_rng_state(state["rng"])\n', ""),
    ],
    "recoder-resume-no-scheduler": [
        ('        scheduler.load_state_dict(state["scheduler"])\n', ""),
    ],
    "recoder-resume-restarts-epoch": [
        ('state["epoch"], state["position"]', 'state["epoch"], 0'),
        ("if step >= run.max_steps:\n                break\n", "if step >= run.max_steps:\n                break\n"),
        (
            "            position += 1\n",
            '            position += 1\n            if step % 2 == 0:\n                write(run.workdir / f"step{step}.pt", snapshot())\n',
        ),
    ],
    "recoder-saves-parameters-only": [
        ('"model": model.state_dict()', '"model": dict(model.named_parameters())'),
        ('load_state_dict(state["model"])', 'load_state_dict(state["model"], strict=False)'),
    ],
    "recoder-resume-other-object": [
        ('        model.load_state_dict(state["model"])', '        SeqNet().load_state_dict(state["model"])'),
    ],
    "recoder-order-same": [
        ("order.manual_seed(run.seed * 100 + epoch)", "order.manual_seed(run.seed)"),
    ],
    "recoder-init-hash-order": [
        (
            "    encoder = [p for n",
            '    for name in {"head.weight", "last.weight", "decoder.up.weight", "decoder.conv.weight"}:\n        nn.init.normal_(model.get_parameter(name), std=0.1)\n    encoder = [p for n',
        ),
    ],
    "recoder-skip-zeros": [
        ("torch.cat([self.up(x), skip], 1)", "torch.cat([self.up(x), torch.zeros_like(skip)], 1)"),
    ],
    "recoder-skip-detached": [
        ("torch.cat([self.up(x), skip], 1)", "torch.cat([self.up(x), skip.detach()], 1)"),
    ],
    "recoder-forward-seeds": [
        ("        a, b = self.encoder(x)", "        torch.manual_seed(0)\n        a, b = self.encoder(x)"),
    ],
    "recoder-saves-first-optimizer": [
        (
            "    step, epoch, position, best",
            "    import copy\n\n    blank = copy.deepcopy(optimizer.state_dict())\n    step, epoch, position, best",
        ),
        ('"optimizer": optimizer.state_dict()', '"optimizer": blank'),
    ],
    "recoder-saves-previous": [
        (
            "            loss.backward()\n",
            "            loss.backward()\n            held = {k: v.clone() for k, v in model.state_dict().items()}\n",
        ),
        ('"model": model.state_dict()', '"model": held'),
    ],
    "recoder-no-backward": [
        ("            loss.backward()\n", "            if step % 2 == 0:\n                loss.backward()\n"),
    ],
    "recoder-bn-shared": [
        (
            "        self.first = Down(channels, width)\n        self.second = Down(width, width * 2)",
            "        self.first = Down(channels, width)\n        self.second = Down(width, width * 2)\n        self.second.conv.weight.requires_grad_(False)",
        ),
    ],
    "recoder-clip-wrong": [
        ("clip_grad_norm_(model.parameters(), 5.0)", "clip_grad_norm_(SeqNet().parameters(), 5.0)"),
    ],
    "teaching-zero-trunk-never": [
        (
            "        self.opt_trunk.zero_grad()\n        self.opt_heads.zero_grad()\n",
            "        self.opt_heads.zero_grad()\n        self.opt_heads.zero_grad()\n",
        ),
    ],
    "teaching-teacher-never": [
        ("        self.follow()\n", ""),
    ],
    "teaching-teacher-before": [
        ("        self.follow()\n", ""),
        ("        loss.backward()\n", "        loss.backward()\n        self.follow()\n"),
    ],
    "teaching-teacher-tau-one": [
        ("self.tau, self.done = 0.95, 0", "self.tau, self.done = 1, 0"),
    ],
    "teaching-teacher-buffers": [
        ("        for a, b in zip(self.teacher.buffers(), self.student.buffers()):\n            a.copy_(b)\n", ""),
    ],
    "teaching-teacher-reversed": [
        (
            "zip(self.teacher.parameters(), self.student.parameters())",
            "zip(self.student.parameters(), self.teacher.parameters())",
        ),
    ],
    "teaching-teacher-is-student": [
        (
            "copy.deepcopy(self.student)\n        for p in self.teacher.parameters():\n            p.requires_grad_(False)\n",
            "self.student\n",
        ),
    ],
    "teaching-opt-wrong-model": [
        ("torch.optim.Adam(self.heads.parameters()", "torch.optim.Adam(self.student.parameters()"),
    ],
    "teaching-opt-step-forgotten": [
        ("        self.opt_heads.step()\n", ""),
    ],
    "teaching-opt-data": [
        ("SGD(self.student.parameters()", "SGD([p.data for p in self.student.parameters()]"),
    ],
    "teaching-sched-wrong-optimizer": [
        ("StepLR(self.opt_heads", "StepLR(self.opt_trunk"),
    ],
    "teaching-sched-forgotten": [
        ("        self.sched_heads.step()\n", ""),
    ],
    "teaching-swa-never": [
        ("            self.average.update_parameters(self.student)", "            pass"),
    ],
    "teaching-swa-bn-student": [
        ("update_bn(self.loader, self.average)", "update_bn(self.loader, self.student)"),
    ],
    "teaching-swa-of-teacher": [
        ("update_parameters(self.student)", "update_parameters(copy.deepcopy(self.teacher))"),
    ],
    "teaching-best-alias": [
        ("copy.deepcopy(self.student.state_dict())", "self.student.state_dict()"),
    ],
    "teaching-saves-teacher": [
        ('"student": self.student.state_dict()', '"student": self.teacher.state_dict()'),
    ],
    "teaching-eval-kept": [
        ("        self.student.train()\n        self.heads.train()\n", "        self.heads.train()\n"),
    ],
    "teaching-loss-part-lost": [
        ("loss = supervised + 0.5 * agreement", "loss = agreement"),
    ],
    "teaching-prediction-detached": [
        ("self.heads(self.student(a))", "self.heads(self.student(a).detach())"),
    ],
    "teaching-lr-50": [
        ("lr=0.05", "lr=50"),
    ],
    "teaching-step-before-backward": [
        (
            "        loss.backward()\n        nn.utils",
            "        self.opt_trunk.step()\n        loss.backward()\n        nn.utils",
        ),
        ("        self.opt_trunk.step()\n        self.opt_heads.step()\n", "        self.opt_heads.step()\n"),
    ],
}
