sample_rate = 1000
clip_samples = 1000
labels = ["hum", "click", "noise", "chirp"]
classes_num = len(labels)
lb_to_ix = {lb: i for i, lb in enumerate(labels)}
