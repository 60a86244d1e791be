"""Healthy trainers of other fields: no signals, no labels, no loader, no optimizer, or another meaning of each."""

from zoo.cases import Healthy

_FACTS = {"seeded": False, "resumable": False, "prepare": None}

HEALTHY = tuple(
    Healthy(f"field-{name.replace('_', '-')}", f"zoo.healthy.odd_domains:{name}", oddity, _FACTS)
    for name, oddity in (
        ("active", "Active learning: samples are judged while unlabeled and trained on in the next round"),
        ("anomaly", "Autoencoder of low-rank tables; labels serve the test alone"),
        ("bert", "Masked tokens of rising sequences, ignored elsewhere; tied weights; rate from 0 back to 0"),
        ("ctc", "Sequences of two lengths; targets joined end to end"),
        ("deepcluster", "Pseudo-labels from k-means: a pass in evaluation mode over the training data"),
        ("detect", "Boxes of varying number; losses divided by the positives; a focal bias; the module saved whole"),
        ("dpsgd", "Differential privacy: gradients per sample by torch.func, written into .grad"),
        ("dqn", "Replay buffer, target network, states of one hot place"),
        ("es", "Evolution strategies: optimizer steps without any backward"),
        ("fedavg", "Federated averaging: new copies and optimizers each round"),
        ("forwardforward", "Every layer is trained on its own; inputs carry the candidate label"),
        ("gan", "The data set's labels are all zero and ignored; targets are real and fake"),
        ("gcn", "One graph on both sides of the split; masks choose the nodes"),
        ("learnedopt", "A recurrent optimizer learns through unrolled steps; its first state is zero"),
        ("lora", "A frozen base read from a file; adapters alone are trained and saved"),
        ("maml", "Second-order gradients through adapted weights"),
        ("maskprune", "Lottery tickets: weights are rewound to the initial ones, which the checkpoint holds"),
        ("meanteacher", "Two loaders zipped; the averaged copy is what is validated"),
        ("mil", "Bags of varying size, one a batch; four bags a step"),
        ("moco", "Contrast with a queue: the target is always class 0, the data set's labels are ignored"),
        ("nanogpt", "No loader: batches cut from a memory map; one checkpoint file, overwritten"),
        ("pinn", "Physics-informed: no data, derivatives with respect to the input, Adam and then L-BFGS"),
        ("ppo", "Rollouts of a vector environment, shuffled minibatches, a rate annealed by hand"),
        ("sgld", "An optimizer of its own that adds noise; a sum over the data set as the loss"),
        ("styletransfer", "The pixels of an image are trained; it begins as its own target"),
        ("swa", "Averaged weights, statistics renewed on training data, then held-out tensors without a loader"),
        ("sweep", "Several trainings in one process, the same seed before each"),
        ("tbptt", "A hidden state carried from batch to batch; plain updates without an optimizer"),
        ("vae", "The evidence bound is a sum over the batch, as in the official example"),
        ("wgan", "A critic with gradient penalty, five steps to the generator's one"),
        ("word2vec", "Sparse gradients; negative samples drawn anew"),
    )
)
