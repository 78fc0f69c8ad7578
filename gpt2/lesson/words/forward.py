"""The forward pass in words, from text to the next token. Keys are the steps of outline; (English, 简体中文) each."""


def step(
    title: tuple[str, str], text: tuple[str, str], question: tuple[str, str], answer: tuple[str, str]
) -> dict[str, dict[str, str]]:
    """What one step says, in both languages."""
    said = {"title": title, "text": text, "question": question, "answer": answer}
    return {name: {"en": en, "zh": zh} for name, (en, zh) in said.items()}


FORWARD = {
    "tokens": step(
        ("From text to tokens", "从文本到词元"),
        (
            "<p>A model computes with numbers, so the text is first cut into <em>tokens</em> from a fixed vocabulary, "
            "and each token becomes its number there, its <em>id</em>. GPT-2’s own vocabulary has 50,257 pieces: the "
            "256 bytes, what merging the most frequent pairs of pieces made of them, and an end-of-text token "
            "(GPT-2 paper, section 2.2). The small model that comes with this project takes every character as a "
            "token, which is easier to watch.</p>"
            "<p>From here on a prompt is an array of ids of the shape (B, T): B sequences of T tokens.</p>"
            "<p>Look at the boxes: one per token, with its id and its position. ↵ is a line break, ␣ a blank. Change "
            "the prompt and press Run: everything below follows.</p>",
            "<p>模型只会和数打交道，所以先要把文本切成<em>词元</em>（token）。词元来自一张固定的词表，"
            "它在表里的编号就叫 <em>id</em>。GPT-2 的词表有 50257 项：256 个字节、"
            "反复合并最常见的相邻片段得到的更长片段，"
            "再加一个文末符号（GPT-2 论文 2.2 节）。本项目自带的小模型把每个字符当作一个词元，看起来更直观。</p>"
            "<p>从这里开始，提示就是一个形状为 (B, T) 的 id 数组：B 条序列，每条 T 个词元。</p>"
            "<p>请看图中的方格：一格一个词元，标着它的 id 和位置。↵ 表示换行，␣ 表示空格。改一改提示再点“运行”，"
            "后面的一切都会跟着变。</p>",
        ),
        (
            "GPT-2 builds its vocabulary from bytes. Why not simply from words?",
            "GPT-2 的词表以字节为基础。为什么不直接用单词？",
        ),
        (
            "<p>A word that is not in the list could not be written at all: new names, typing errors, other languages, "
            "emoji. Any text is a row of bytes, so 256 pieces are enough for everything, and the merges only make "
            "frequent text shorter.</p>",
            "<p>词表里没有的词就完全写不出来：新名字、拼写错误、其他语言、表情符号都不行。而任何文本都是一串字节，"
            "256 个片段就足以写出一切；合并只是让常见的文本变短。</p>",
        ),
    ),
    "embeddings": step(
        ("Embeddings: what and where", "嵌入：是什么，在哪里"),
        (
            "<p>Each id picks a row of the table <code>wte</code> (what is it?), each position a row of "
            "<code>wpe</code> (where does it stand?). Their sum enters the first layer:</p>"
            "<p><code>x = wte[ids] + wpe[0, 1, …, T−1]</code></p>"
            "<p>Both tables are learnt; GPT-2 has no sine waves (GPT-1 paper, section 3.1: "
            "h<sub>0</sub> = U W<sub>e</sub> + W<sub>p</sub>). From here on every token is a row of C numbers, its "
            "<em>channels</em>.</p>"
            "<p>In the picture each row is a token and each column a channel. Find a letter that occurs twice: in "
            "<code>wte</code> its two rows are the same bit for bit, in the sum they are not.</p>",
            "<p>每个 id 从表 <code>wte</code> 里取一行（它是什么），每个位置从表 <code>wpe</code> "
            "里取一行（它在哪里），"
            "两行相加就是第一层的输入：</p>"
            "<p><code>x = wte[ids] + wpe[0, 1, …, T−1]</code></p>"
            "<p>两张表都是学出来的，GPT-2 不用正弦函数（GPT-1 论文 3.1 节：h<sub>0</sub> = U W<sub>e</sub> + "
            "W<sub>p</sub>）。从此每个词元都是一行 C 个数，也就是它的各个<em>通道</em>。</p>"
            "<p>图中一行是一个词元，一列是一个通道。找一个出现两次的字母：在 <code>wte</code> 中它的两行逐位相同，"
            "相加之后就不同了。</p>",
        ),
        (
            "What would the first layer’s last token notice if two earlier tokens changed places and there was no "
            "<code>wpe</code>?",
            "如果没有 <code>wpe</code>，把前面的两个词元对调，第一层里的最后一个词元会察觉到吗？",
        ),
        (
            "<p>Nothing. Attention is a weighted mean, and a mean does not know the order of what goes into it. "
            "Only deeper layers could guess something, because the causal mask shows each token a different past.</p>",
            "<p>察觉不到。注意力是加权平均，而平均与相加的次序无关。只有更深的层才能猜到一点，"
            "因为因果掩码让每个词元看到的“过去”各不相同。</p>",
        ),
    ),
    "ln_1": step(
        ("LayerNorm: before every sub-block", "层归一化：先归一，再计算"),
        (
            "<p>Before attention reads the stream, each token’s row is shifted and scaled to mean 0 and variance 1; "
            "then every channel gets its learnt gain and bias:</p>"
            "<p><code>y = (x − mean) / √(variance + ε) · weight + bias</code></p>"
            "<p>Mean and variance are taken over the C channels of <em>one</em> token; the variance divides by C, not "
            "C − 1, and ε = 1e-5 stands under the root (Ba et al. 2016, equation 4). GPT-2 moved the norm to the "
            "<em>input</em> of each sub-block (GPT-2 paper, section 2.3).</p>"
            "<p>Compare with the step before: strong rows and weak rows are now equally strong. The reference spells "
            "out each step, the twin calls one fused kernel; the badge says how far apart they land.</p>",
            "<p>注意力读取之前，先把每个词元的那一行平移、缩放到均值 0、方差 1，再给每个通道乘上学到的增益、"
            "加上偏置：</p>"
            "<p><code>y = (x − 均值) / √(方差 + ε) · weight + bias</code></p>"
            "<p>均值和方差只在<em>一个</em>词元的 C 个通道上计算；方差除以 C 而不是 C − 1，ε = 1e-5 在根号里面"
            "（Ba 等 2016，式 4）。GPT-2 把归一化移到了每个子层的<em>输入</em>端（GPT-2 论文 2.3 节）。</p>"
            "<p>和上一步对比：原来有强有弱的行，现在一样强了。参考实现一步一步写出来，孪生实现只调用一个融合算子；"
            "标签上写着两者差多少。</p>",
        ),
        (
            "Can what stands at one token change the LayerNorm of another?",
            "一个词元的内容会影响另一个词元的层归一化吗？",
        ),
        (
            "<p>No: every row is computed alone. That is why padding, a longer batch or a later token cannot disturb "
            "it, and it is one of the laws by which the judge tests a backend on its own.</p>",
            "<p>不会：每一行都独立计算。所以填充、更大的批次、后面的词元都干扰不到它。"
            "这也是裁判单独检验一个后端时用的定律之一。</p>",
        ),
    ),
    "qkv": step(
        ("Query, key and value", "查询、键和值"),
        (
            "<p>Each token makes three vectors of itself: a <em>query</em> (what am I looking for?), a <em>key</em> "
            "(what can I be found by?) and a <em>value</em> (what do I offer?). One affine map makes all three at "
            "once:</p>"
            "<p><code>q, k, v = split(x · W + b, 3)</code>, with W = <code>c_attn</code> of shape (C, 3C)</p>"
            "<p>GPT-2 calls the map <code>conv1d</code>, a convolution of width 1, and stores its weight as (in, out): "
            "the other way round than <code>nn.Linear</code> or <code>nn.Dense</code>, so whoever converts weights "
            "must know it.</p>"
            "<p>In the picture the columns form three bands of C channels: q, then k, then v. Nothing has mixed the "
            "tokens yet; each row depends on its own token alone.</p>",
            "<p>每个词元由自己生成三个向量：<em>查询</em>（我在找什么）、<em>键</em>（别人凭什么找到我）和<em>值</em>"
            "（我能提供什么）。三者由同一个仿射变换一次算出：</p>"
            "<p><code>q, k, v = split(x · W + b, 3)</code>，其中 W 是形状为 (C, 3C) 的 <code>c_attn</code></p>"
            "<p>GPT-2 把这个变换叫作 <code>conv1d</code>（宽度为 1 的卷积），权重按 (输入, 输出) 存放，与 "
            "<code>nn.Linear</code>、<code>nn.Dense</code> 正好相反，转换权重时必须留意。</p>"
            "<p>图中的列分成三段，每段 C 个通道：先 q，再 k，最后 v。到这里词元之间还没有任何交流，"
            "每一行只取决于自己的词元。</p>",
        ),
        (
            "Why one large product instead of three small ones?",
            "为什么做一次大的矩阵乘法，而不是三次小的？",
        ),
        (
            "<p>The numbers are the same: the three weight matrices just stand side by side in <code>c_attn</code>. "
            "But one large product reads x once and keeps the processor busier than three small ones.</p>",
            "<p>结果是一样的：<code>c_attn</code> 只是把三个权重矩阵并排放在一起。但一次大乘法只需读一遍 x，"
            "也比三次小乘法更能让处理器满负荷工作。</p>",
        ),
    ),
    "split_heads": step(
        ("Splitting into heads", "切分成多个头"),
        (
            "<p>One attention could follow only one relation at a time. So the C channels are cut into H "
            "<em>heads</em> of D = C / H neighbouring channels, and each head attends for itself "
            "(“Attention is all you need”, section 3.2.2):</p>"
            "<p><code>(B, T, C) → (B, T, H, D) → (B, H, T, D)</code></p>"
            "<p>First the channels are cut, then the axes of heads and tokens change places, so that every head owns "
            "a small matrix of T rows and D columns. No number changes and nothing is rounded; they are only arranged "
            "anew.</p>"
            "<p>Pick a head above the picture. It shows a slice of D columns from the bands of the last step; "
            "you can switch between q, k and v.</p>",
            "<p>只有一组注意力，一次只能关注一种关系。所以把 C 个通道切成 H 个<em>头</em>，每个头占相邻的 D = C / H "
            "个通道，各自计算注意力（“Attention is all you need” 3.2.2 节）：</p>"
            "<p><code>(B, T, C) → (B, T, H, D) → (B, H, T, D)</code></p>"
            "<p>先切通道，再交换“头”和“词元”两个轴，于是每个头都有自己的一个 T 行 D 列的小矩阵。数值一个也没变，"
            "也没有任何舍入，只是重新排列。</p>"
            "<p>在图的上方选一个头：显示的正是上一步三段里的某 D 列，可以在 q、k、v 之间切换。</p>",
        ),
        (
            "<code>x.reshape(B, H, T, D)</code> gives the right shape at once. What is wrong with it?",
            "<code>x.reshape(B, H, T, D)</code> 一步就能得到正确的形状。错在哪里？",
        ),
        (
            "<p>Reshape keeps the order of the numbers in memory, where all channels of token 0 come first. Head 0 "
            "would get the first tokens with all their channels instead of all tokens with its own. Switch on "
            "“Heads cut but not moved” to see it.</p>",
            "<p>reshape 不改变数在内存里的先后，而内存里最先是 0 号词元的全部通道。这样 0 "
            "号头拿到的是前几个词元的所有通道，"
            "而不是所有词元属于它的通道。打开“切了头，却没有换轴”就能看到后果。</p>",
        ),
    ),
    "scores": step(
        ("Scores: who fits whom", "分数：谁与谁相配"),
        (
            "<p>How well does what token i asks fit what token j can be found by? The dot product of query and key "
            "says so (“Attention is all you need”, equation 1):</p>"
            "<p><code>scores = q · k<sup>T</sup> / √D</code></p>"
            "<p>The result is a table of T × T numbers for every head: rows ask, columns are asked. The division by √D "
            "keeps its scale independent of the head’s size.</p>"
            "<p>Point at a cell: it names the pair. The two colours are positive and negative scores. The upper right "
            "triangle is still filled: here tokens may even ask those that come after them. Go through the heads; each "
            "has its own taste.</p>",
            "<p>词元 i 要找的，和词元 j 能被找到的依据，有多相配？看查询与键的点积（“Attention is all you need” "
            "式 1）：</p>"
            "<p><code>scores = q · k<sup>T</sup> / √D</code></p>"
            "<p>于是每个头得到一张 T × T 的表：行是提问者，列是被问者。除以 √D 是为了让分数的大小不随头的维度变化。</p>"
            "<p>把鼠标移到格子上，会显示是哪一对词元。两种颜色分别表示正分和负分。右上三角此时还是满的："
            "这一步里，词元甚至可以问排在自己后面的词元。逐个头看看，它们各有偏好。</p>",
        ),
        (
            "Why √D, and not D or nothing at all?",
            "为什么是 √D，而不是 D，也不是什么都不除？",
        ),
        (
            "<p>If the components of q and k are independent with mean 0 and variance 1, their dot product is a sum of "
            "D such terms and has variance D; dividing by √D brings it back to 1. With larger scores softmax would "
            "pick a single token and its gradient would vanish (section 3.2.1, footnote 4).</p>",
            "<p>若 q 和 k 的各分量相互独立、均值 0、方差 1，它们的点积就是 D 项之和，方差为 D；除以 √D 正好回到 1。"
            "分数太大时，softmax 几乎只选一个词元，梯度随之消失（3.2.1 节脚注 4）。</p>",
        ),
    ),
    "causal_mask": step(
        ("The causal mask", "因果掩码"),
        (
            "<p>The model is to learn to predict the next token, so no token may see what comes after it. Hidden "
            "scores are replaced by the lowest finite number of the dtype:</p>"
            "<p><code>masked = score where key ≤ query, else −3.4e38</code></p>"
            "<p>in float32, and −65504 in float16. Softmax turns that into exactly 0. OpenAI’s code took −1e10, which "
            "float16 cannot hold.</p>"
            "<p>In the picture the upper triangle is now hatched: those cells hold −3.4e38. The first row sees only "
            "itself, the last one everything. The reference makes the triangle with <code>np.tri</code>, the twin by "
            "comparing two ranges; the booleans must be equal, there is nothing to round.</p>",
            "<p>模型要学的是预测下一个词元，所以任何词元都不能看到自己后面的内容。"
            "被遮住的分数换成该类型的最小有限数：</p>"
            "<p><code>masked = 键 ≤ 查询时取 score，否则取 −3.4e38</code></p>"
            "<p>这是 float32 的值，float16 则是 −65504。softmax 会把它变成精确的 0。OpenAI 的代码用 −1e10，"
            "但 float16 存不下这个数。</p>"
            "<p>图中右上三角现在画成阴影：这些格子的值是 −3.4e38。第一行只看得到自己，最后一行看得到全部。"
            "参考实现用 <code>np.tri</code> 造出三角，孪生实现则比较两个序列；布尔值必须完全相等，没有舍入可言。</p>",
        ),
        (
            "Why the lowest <em>finite</em> number, and not −∞?",
            "为什么用最小的<em>有限</em>数，而不用 −∞？",
        ),
        (
            "<p>If everything in a row is hidden, as for a pad on the left, softmax first takes off the row’s maximum: "
            "−∞ − (−∞) is NaN, and NaN spreads through everything that follows. With a finite number the row becomes "
            "uniform: meaningless, but harmless.</p>",
            "<p>如果一整行都被遮住（例如左侧的填充），softmax 要先减去行内最大值：−∞ − (−∞) 得到 NaN，"
            "并扩散到后面的所有结果。用有限数，这一行只会变成均匀分布：没有意义，但也无害。</p>",
        ),
    ),
    "softmax": step(
        ("Softmax: from scores to shares", "softmax：从分数到份额"),
        (
            "<p>Scores become shares: each is exponentiated and divided by the sum of its row.</p>"
            "<p><code>w<sub>ij</sub> = exp(s<sub>ij</sub> − m<sub>i</sub>) / Σ<sub>j</sub> exp(s<sub>ij</sub> − "
            "m<sub>i</sub>)</code>, with m<sub>i</sub> the maximum of row i</p>"
            "<p>Every row is now positive and sums to 1: how much token i takes of each token it may see.</p>"
            "<p>In the picture the hidden cells are exactly 0, not merely small: exp(−3.4e38) is too small for "
            "any float. "
            "The first row is a single 1, since the first token has nobody else to look at. Look for columns that "
            "many rows like, and for diagonals: a head that looks a fixed number of tokens back.</p>",
            "<p>把分数变成份额：先取指数，再除以所在行的总和。</p>"
            "<p><code>w<sub>ij</sub> = exp(s<sub>ij</sub> − m<sub>i</sub>) / Σ<sub>j</sub> exp(s<sub>ij</sub> − "
            "m<sub>i</sub>)</code>，m<sub>i</sub> 是第 i 行的最大值</p>"
            "<p>现在每一行都非负，和为 1：词元 i 从它看得到的每个词元那里各取多少。</p>"
            "<p>图中被遮住的格子是精确的 0，而不只是很小：exp(−3.4e38) 比任何浮点数都小。第一行只有一个 1，"
            "因为第一个词元没有别人可看。留意哪些列受到许多行的青睐，也留意斜线：那是总往回看固定几个词元的头。</p>",
        ),
        (
            "The maximum is taken off first. Does that change the result?",
            "先减去最大值，会改变结果吗？",
        ),
        (
            "<p>Not in exact arithmetic: the factor exp(−m) cancels. But without it float32 overflows: exp(89) is "
            "already infinite, and ∞ / ∞ is NaN. That softmax forgets a shift is also a law of the judge.</p>",
            "<p>在精确运算中不会：因子 exp(−m) 会约掉。但不减的话 float32 会溢出：exp(89) 已经是无穷大，而 ∞ / ∞ "
            "是 NaN。“softmax 不受平移影响”也是裁判的一条定律。</p>",
        ),
    ),
    "weighting": step(
        ("Weighting the values", "对值加权"),
        (
            "<p>Each token now collects what the others offer: the mean of the values, weighted by the shares.</p>"
            "<p><code>out<sub>i</sub> = Σ<sub>j</sub> w<sub>ij</sub> · v<sub>j</sub></code>, that is, "
            "<code>w · v</code>: (T, T) times (T, D)</p>"
            "<p>This is the only place in GPT-2 where tokens exchange anything; all other steps treat each token by "
            "itself. Everything that the model knows about context has come this way.</p>"
            "<p>Compare the two pictures, the result and v. The first row is the same in both. A row whose "
            "share went to one token alone is a copy of that token’s v; otherwise it is a blend. The code below is the "
            "whole attention: every step so far, in its order.</p>",
            "<p>现在每个词元按份额收集别人提供的内容，也就是对各个值做加权平均：</p>"
            "<p><code>out<sub>i</sub> = Σ<sub>j</sub> w<sub>ij</sub> · v<sub>j</sub></code>，即 <code>w · v</code>："
            "(T, T) 乘 (T, D)</p>"
            "<p>整个 GPT-2 里，词元之间只在这里交换信息，其余每一步都是各算各的。模型对上下文的全部了解，"
            "都从这里流过。</p>"
            "<p>对比两张图：结果，以及 v。第一行在两张图里完全相同。如果某一行把份额全给了一个词元，"
            "它就是那个词元的 v 的副本，否则就是几个的混合。下方的代码是完整的注意力：到此为止的每一步，依次写出。</p>",
        ),
        (
            "Why is the first row of the result always the first row of v?",
            "为什么结果的第一行总是等于 v 的第一行？",
        ),
        (
            "<p>The mask leaves the first token nothing but itself, so its only share is exactly 1, and a mean of one "
            "thing is that thing. The judge uses it as a law: “the first token sees itself alone”.</p>",
            "<p>掩码使第一个词元只能看到自己，所以它唯一的份额恰好是 1，一个数的平均就是它本身。"
            "裁判把这一点当作定律：“第一个词元只看得到自己”。</p>",
        ),
    ),
    "merge_heads": step(
        ("Merging the heads", "合并各个头"),
        (
            "<p>The heads’ results are put side by side again, so that each token has one row of C channels:</p>"
            "<p><code>(B, H, T, D) → (B, T, H, D) → (B, T, C)</code></p>"
            "<p>It is the splitting run backwards: first the axes of heads and tokens change places, then heads and "
            "their channels become one axis. It is the <em>Concat</em> of section 3.2.2 in “Attention is all you "
            "need”. Again no number changes.</p>"
            "<p>In the picture each head owns a band of D neighbouring columns. Heads that found something show strong "
            "bands; a head that spread its attention evenly looks washed out, since a mean of many values is "
            "small.</p>",
            "<p>把各个头的结果重新并排放好，每个词元又成为一行 C 个通道：</p>"
            "<p><code>(B, H, T, D) → (B, T, H, D) → (B, T, C)</code></p>"
            "<p>这正是切分的逆过程：先交换“头”和“词元”两个轴，再把头和头内通道合成一个轴，也就是“Attention is all you "
            "need” 3.2.2 节里的 <em>Concat</em>。数值依然一个没变。</p>"
            "<p>图中每个头占相邻的 D 列。找到了目标的头，颜色鲜明；把注意力平均分散开的头，颜色发灰，"
            "因为许多值一平均就变小了。</p>",
        ),
        (
            "What happens if the axes are not moved back before the reshape?",
            "如果 reshape 之前不把轴换回来，会怎样？",
        ),
        (
            "<p>The shape is the same, but rows of one head come where tokens should be: a token’s row would hold what "
            "the same head found for several tokens. Later tokens then leak into earlier ones, which the law of "
            "causality notices.</p>",
            "<p>形状一样，但本该是词元的地方排上了同一个头的各行：一个词元的行里，"
            "装的是同一个头为好几个词元找到的内容。"
            "后面的词元因此会漏到前面去，因果性定律会发现这一点。</p>",
        ),
    ),
    "projection": step(
        ("The output projection", "输出投影"),
        (
            "<p>A last affine map of the attention lets the heads speak to all channels:</p>"
            "<p><code>out = merged · W + b</code>, with W = <code>c_proj</code> of shape (C, C)</p>"
            "<p>Up to here head h could write only to its own D channels. Each D rows of W say what one head’s result "
            "means for the whole stream, so the output is a sum of H contributions (W<sup>O</sup> in “Attention is all "
            "you need”, section 3.2.2). At the start of training GPT-2 scales weights that write to the stream by "
            "1/√N, N being their number (GPT-2 paper, section 2.3).</p>"
            "<p>In the picture the bands of the heads have gone. This is what attention will add to the stream.</p>",
            "<p>注意力的最后一个仿射变换，让各个头能够影响所有通道：</p>"
            "<p><code>out = merged · W + b</code>，其中 W 是形状为 (C, C) 的 <code>c_proj</code></p>"
            "<p>在此之前，第 h 个头只能写自己的 D 个通道。W 的每 D 行规定了一个头的结果对整个残差流意味着什么，"
            "所以输出是 H 份贡献之和（“Attention is all you need” 3.2.2 节的 W<sup>O</sup>）。初始化时，GPT-2 "
            "把写入残差流的权重乘以 1/√N，N 是这类层的个数（GPT-2 论文 2.3 节）。</p>"
            "<p>图中各个头的条带已经消失。这就是注意力将要加到残差流上的内容。</p>",
        ),
        (
            "GPT-2 stores four weights of each layer the other way round than PyTorch’s Linear. Why is this one the "
            "most treacherous to convert?",
            "每层有四个权重的存放方式与 PyTorch 的 Linear 相反。为什么转换时这一个最容易出错？",
        ),
        (
            "<p>It is square. A transposed <code>c_attn</code> or <code>c_fc</code> does not fit and raises an "
            "error; a "
            "transposed (C, C) fits and gives wrong numbers in silence. Switch on “c_proj transposed”.</p>",
            "<p>因为它是方阵。<code>c_attn</code> 或 <code>c_fc</code> 转置了，形状对不上，立刻报错；(C, C) "
            "转置了形状照样合适，只会悄悄给出错误的数。打开“c_proj 被转置”看看。</p>",
        ),
    ),
    "residual": step(
        ("The residual stream", "残差流"),
        (
            "<p>Attention does not replace a token’s row, it adds to it:</p>"
            "<p><code>x = x + attention(ln_1(x))</code></p>"
            "<p>The rows that run through all layers, and that every sub-block reads and adds to, are called the "
            "<em>residual stream</em> (He et al. 2016). What no layer touches arrives unchanged at the end, and "
            "gradients find the same straight way back.</p>"
            "<p>Compare the scale with that of the embeddings: how much has been added? The packaged model "
            "writes some ten "
            "times more in its first attention than it started from. The sum is taken from the stream itself, not from "
            "its normed copy; mixing the two up is the bug “Residual of the normed input”.</p>",
            "<p>注意力并不取代词元原来的那一行，而是加在上面：</p>"
            "<p><code>x = x + attention(ln_1(x))</code></p>"
            "<p>这些贯穿所有层、每个子层都从中读取又往上相加的行，叫作<em>残差流</em>（He 等 2016）。"
            "没有被任何层改动的内容会原样到达终点，梯度回来时走的也是这条直路。</p>"
            "<p>把刻度和嵌入的刻度对比一下：新加了多少？自带的小模型在第一次注意力里写下的，大约是出发时的十倍。"
            "注意相加的是残差流本身，而不是归一化之后的副本；把两者弄混，"
            "就是“残差加在了归一化之后的输入上”这个错误。</p>",
        ),
        (
            "What is the gradient of x + f(x), and why does that matter for 48 layers?",
            "x + f(x) 的梯度是什么？为什么对 48 层的模型很重要？",
        ),
        (
            "<p>It is g + g·f′(x): what arrives passes on unchanged, and the branch only adds its share. Without the "
            "“x +” it would be multiplied by f′ at each layer, and a product of 48 such factors tends to vanish or "
            "explode.</p>",
            "<p>是 g + g·f′(x)：传来的梯度原样传下去，分支只是再加上自己的一份。没有“x +”，每过一层就要乘一次 f′，"
            "48 个因子连乘，不是趋于消失就是爆炸。</p>",
        ),
    ),
    "ln_2": step(
        ("The second norm", "第二次归一化"),
        (
            "<p>Each layer has two sub-blocks, and each has its own LayerNorm in front. This is the one before the "
            "MLP: the same function as <code>ln_1</code>, with a gain and a bias of its own:</p>"
            '<p><code>y = layer_norm(x, **params["ln_2"])</code></p>'
            "<p>That the norm stands <em>inside</em> the branch is GPT-2’s change against GPT-1 and the first "
            "Transformer, which normed the sum behind each sub-block (GPT-2 paper, section 2.3). So the stream itself "
            "is never normed before the very end and may grow from layer to layer.</p>"
            "<p>Look at the scales beside the pictures: the stream’s grows with the layers, this one’s hardly "
            "does.</p>",
            "<p>每层有两个子层，各自前面都有一个层归一化。这里是 MLP 之前的那个：函数与 <code>ln_1</code> 相同，"
            "增益和偏置是自己的：</p>"
            '<p><code>y = layer_norm(x, **params["ln_2"])</code></p>'
            "<p>把归一化放进分支<em>里面</em>，是 GPT-2 与 GPT-1 以及最初的 Transformer 的不同之处，"
            "后两者是在每个子层之后对相加的结果归一化（GPT-2 论文 2.3 节）。所以残差流本身直到最后都没有归一化过，"
            "可以逐层变大。</p>"
            "<p>看看图旁的刻度：残差流的范围随层数增大，而这里几乎不变。</p>",
        ),
        (
            "If a port used <code>ln_1</code>’s weights here, would a freshly initialised model show it?",
            "如果移植时在这里误用了 <code>ln_1</code> 的权重，刚初始化的模型看得出来吗？",
        ),
        (
            "<p>No: in a fresh model every gain is 1 and every bias 0, so both norms are the same. That is why the "
            "judge draws values where every parameter matters instead of the usual initialisation.</p>",
            "<p>看不出来：刚初始化时增益全是 1，偏置全是 0，两个归一化毫无区别。"
            "所以裁判不用常规的初始化，而是让每个参数的取值都起作用。</p>",
        ),
    ),
    "mlp": step(
        ("The MLP: each token by itself", "MLP：各自思考"),
        (
            "<p>After the exchange every token works on what it has heard, alone: up to 4C units, through a bend, and "
            "down again.</p>"
            "<p><code>mlp(x) = gelu(x · W<sub>1</sub> + b<sub>1</sub>) · W<sub>2</sub> + b<sub>2</sub></code></p>"
            "<p><code>gelu(x) = x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x<sup>3</sup>)))</code></p>"
            "<p>That is GPT-2’s GELU, an approximation of x times the normal distribution function (Hendrycks and "
            "Gimpel 2016, section 2). The two forms differ by 5·10<sup>-4</sup> at most, enough for the judge.</p>"
            "<p>The first picture shows the units after GELU: most are near 0 or slightly below, never under −0.17; a "
            "number of them shine. Two thirds of a layer’s weights are here.</p>",
            "<p>交流过后，每个词元独自消化听到的内容：先升到 4C 个单元，经过一个弯，再降回来。</p>"
            "<p><code>mlp(x) = gelu(x · W<sub>1</sub> + b<sub>1</sub>) · W<sub>2</sub> + b<sub>2</sub></code></p>"
            "<p><code>gelu(x) = x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x<sup>3</sup>)))</code></p>"
            "<p>这是 GPT-2 的 GELU，近似于 x 乘以正态分布函数（Hendrycks 与 Gimpel 2016，第 2 节）。"
            "两种写法最多相差 5·10<sup>-4</sup>，但足以让裁判看出来。</p>"
            "<p>第一张图是 GELU 之后的单元：大多接近 0 或略低于 0，最低不过 −0.17；只有一部分很亮。"
            "一层里三分之二的权重都在这里。</p>",
        ),
        (
            "What would be left of the MLP without the GELU?",
            "去掉 GELU，MLP 还剩下什么？",
        ),
        (
            "<p>A single affine map: (x W<sub>1</sub> + b<sub>1</sub>) W<sub>2</sub> + b<sub>2</sub> = "
            "x (W<sub>1</sub>W<sub>2</sub>) + const. The 4C units would be for nothing; it is the bend that lets them "
            "say “if”.</p>",
            "<p>只剩一个仿射变换：(x W<sub>1</sub> + b<sub>1</sub>) W<sub>2</sub> + b<sub>2</sub> = "
            "x (W<sub>1</sub>W<sub>2</sub>) + 常数。那 4C 个单元就白费了；正是这个弯，让它们能表达“如果”。</p>",
        ),
    ),
    "residual_2": step(
        ("The second residual sum", "第二次残差相加"),
        (
            "<p>The MLP’s result is added to the stream as well, and one layer is done:</p>"
            "<p><code>x = x + mlp(ln_2(x))</code></p>"
            "<p>A whole layer is therefore two sentences: gather from the others, then think for yourself. The code "
            "below is all of it. Where dropout is on, in training, it thins out each branch before it is added "
            "(Srivastava et al. 2014); here nothing is dropped.</p>"
            "<p>Switch between the layers and compare with the residual stream before the MLP: how much did this "
            "sub-block change? The twin writes the same two sums. Their rounding errors add up along the stream, and "
            "so does the noise floor by which they are judged.</p>",
            "<p>MLP 的结果同样加到残差流上，一层就完成了：</p>"
            "<p><code>x = x + mlp(ln_2(x))</code></p>"
            "<p>所以一层只说两句话：先向别人收集，再自己思考。下方的代码就是它的全部。训练时若启用 dropout，"
            "会先随机稀疏每个分支再相加（Srivastava 等 2014）；这里什么也没有丢弃。</p>"
            "<p>切换不同的层，与 MLP 之前的残差流对比：这个子层改变了多少？孪生实现写的是同样的两次相加。"
            "舍入误差沿着残差流累积，用来判定的噪声基线也随之累积。</p>",
        ),
        (
            "How often is something added to the stream in a GPT-2 of 12 layers?",
            "一个 12 层的 GPT-2，一共往残差流上加了多少次？",
        ),
        (
            "<p>24 times: attention and MLP in each layer. This 24 is the N of the 1/√N by which the writing weights "
            "are scaled at the start, lest the stream grow with the depth.</p>",
            "<p>24 次：每层注意力一次，MLP 一次。初始化时写入残差流的权重要乘 1/√N，这里的 N 就是 24，"
            "免得残差流随深度不断变大。</p>",
        ),
    ),
    "layers": step(
        ("Layer upon layer", "一层又一层"),
        (
            "<p>All layers have the same form and their own weights; the stream passes one after the other:</p>"
            '<p><code>for i, layer in enumerate(params["h"]): x = block(x, layer)</code></p>'
            "<p>GPT-2 small has 12 of them, the largest 48 (GPT-2 paper, table 2). Early layers often look at "
            "neighbours and forms, later ones at what is to be said next, but nobody has prescribed it: it is what "
            "training made of it.</p>"
            "<p>Pick a layer above the picture and watch the stream after it; the embeddings it started from are "
            "the other "
            "tensor. In the packaged model the rows of the letters to be worked on become the strongest. Look also at "
            "the verdicts: the error against the oracle grows along the way, and so does what is allowed.</p>",
            "<p>所有的层结构相同，权重各自不同，残差流依次流过它们：</p>"
            '<p><code>for i, layer in enumerate(params["h"]): x = block(x, layer)</code></p>'
            "<p>GPT-2 small 有 12 层，最大的有 48 层（GPT-2 论文表 2）。靠前的层往往关注近邻和字形，"
            "靠后的层更关心接下来该说什么；但这并没有人规定，是训练自己形成的。</p>"
            "<p>在图的上方选择一层，看它之后的残差流；另一个张量是出发时的嵌入。在自带的小模型里，"
            "需要处理的那几个字母，所在的行会变得最强。再看看判定：与基准的误差一路增大，允许的范围也随之增大。</p>",
        ),
        (
            "Could one read a prediction before the last layer?",
            "不等到最后一层，能不能提前读出预测？",
        ),
        (
            "<p>Yes: apply the final norm and the output table to an earlier stream. This “logit lens” "
            "(nostalgebraist 2020) often shows the answer taking shape layer by layer. It works because all layers "
            "write to the same stream.</p>",
            "<p>可以：把最后的归一化和输出表直接用在较早的残差流上。这叫“logit lens”（nostalgebraist 2020），"
            "常常能看到答案逐层成形。它之所以行得通，是因为所有层写的是同一条残差流。</p>",
        ),
    ),
    "final_norm": step(
        ("The final norm", "最后的归一化"),
        (
            "<p>What leaves the last layer has been added to many times and never normed. So one more LayerNorm, with "
            "its own gain and bias, stands at the end:</p>"
            '<p><code>y = layer_norm(x, **params["ln_f"])</code></p>'
            "<p>“An additional layer normalization was added after the final self-attention block” (GPT-2 paper, "
            "section 2.3): it is the price of moving the norms into the branches.</p>"
            "<p>Compare with the last layer’s stream: strong rows and weak rows are equally strong again. From "
            "here on only "
            "the direction of a row matters. The last row is the one that will say what comes next.</p>",
            "<p>最后一层的输出被加了许多次，却从未归一化过。所以末尾还有一个层归一化，带着自己的增益和偏置：</p>"
            '<p><code>y = layer_norm(x, **params["ln_f"])</code></p>'
            "<p>“在最后一个自注意力块之后又加了一个层归一化”（GPT-2 论文 2.3 节）：把归一化移进分支，"
            "就要付出这个代价。</p>"
            "<p>和最后一层的残差流对比：强的行和弱的行又变得一样强。从这里起，一行里重要的只是方向。"
            "最后一行将告诉我们接下来是什么。</p>",
        ),
        (
            "How can the judge notice a missing <code>ln_f</code> without any second implementation?",
            "没有第二份实现，裁判怎样发现漏掉了 <code>ln_f</code>？",
        ),
        (
            "<p>With gains of 1 and biases of 0, each normed row has mean 0. So it takes a model with such an "
            "<code>ln_f</code> and looks at the mean of the final states: the law “final states have mean 0”.</p>",
            "<p>增益为 1、偏置为 0 时，归一化后的每一行均值都是 0。于是裁判取一个 <code>ln_f</code> 正是如此的模型，"
            "看最终状态的均值，这就是定律“最终状态的均值为 0”。</p>",
        ),
    ),
    "logits": step(
        ("Logits: a score for every token", "logits：给每个词元打分"),
        (
            "<p>How well does a final row fit each token of the vocabulary? It is compared with every row of the "
            "embedding table, the same one that the tokens came in by:</p>"
            "<p><code>logits = ln_f(x) · wte<sup>T</sup></code>, of shape (B, T, V)</p>"
            "<p>That input and output share a table is called <em>tied embeddings</em> (Press and Wolf 2017; "
            "“Attention is all you need”, section 3.4). It saves V × C weights, in GPT-2 small 39 of 124 million.</p>"
            "<p>Each row of the picture scores what may follow <em>that</em> token; columns are the tokens of the "
            "vocabulary. The last row is the one that counts for the next token. The other rows are there anyway, and "
            "training uses them all.</p>",
            "<p>最终的一行与词表里的每个词元有多相配？把它与嵌入表的每一行做点积，用的正是词元进来时的那张表：</p>"
            "<p><code>logits = ln_f(x) · wte<sup>T</sup></code>，形状 (B, T, V)</p>"
            "<p>输入和输出共用一张表，叫作<em>权重绑定</em>（Press 与 Wolf 2017；“Attention is all you need” 3.4 节）。"
            "这样省下 V × C 个权重，在 GPT-2 small 的 1.24 亿个参数里就是 3900 万。</p>"
            "<p>图中每一行给的是<em>那个</em>词元之后可能出现什么的分数，列是词表里的词元。决定下一个词元的是最后一行；"
            "其他行也一并算出来了，训练时全都用得上。</p>",
        ),
        (
            "Why compute scores at every position, if only the last one is needed to go on?",
            "续写只需要最后一个位置的分数，为什么每个位置都要算？",
        ),
        (
            "<p>In training each position is an exercise of its own, so one pass gives T of them. When text is written "
            "one needs the last row only, and the fast form of the model indeed computes no other.</p>",
            "<p>训练时每个位置都是一道练习题，一次前向就有 T 道。生成文本时只需要最后一行，"
            "模型的快速形式也确实只算这一行。</p>",
        ),
    ),
    "next_token": step(
        ("Choosing the next token", "选出下一个词元"),
        (
            "<p>Softmax turns the last row of scores into probabilities, and one token is chosen:</p>"
            "<p><code>p = softmax(logits / temperature)</code></p>"
            "<p><em>Greedy</em> takes the likeliest. <em>Sampling</em> draws by p, often after cutting off the tail: "
            "top-k keeps the k likeliest, top-p the fewest that together reach p (Holtzman et al. 2020). The chosen "
            "token is appended and the whole game begins again; a cache of keys and values spares computing the past "
            "anew.</p>"
            "<p>The bars show the ten likeliest tokens. Both implementations must choose the same id, so where two "
            "scores are equal the lower id wins; and chance comes from outside, as one number per draw, so that even "
            "samples can be compared.</p>",
            "<p>softmax 把最后一行分数变成概率，再从中选出一个词元：</p>"
            "<p><code>p = softmax(logits / temperature)</code></p>"
            "<p><em>贪心</em>取概率最大的。<em>采样</em>按 p 抽取，通常先截去尾部：top-k 只留最可能的 k 个，top-p "
            "留下合计达到 p 的最少几个（Holtzman 等 2020）。选出的词元接到末尾，一切重新来过；"
            "键和值的缓存免去了重算过去。</p>"
            "<p>条形图是最可能的十个词元。两份实现必须选出同一个 id，所以分数相等时取较小的 id；"
            "随机性由外部给出，每次抽取用一个数，这样连采样也能对比。</p>",
        ),
        (
            "What does sampling become as the temperature goes to 0?",
            "温度趋于 0 时，采样变成了什么？",
        ),
        (
            "<p>Greedy choice: dividing by a small number pulls the scores apart until all probability lies on the "
            "highest. A temperature above 1 does the opposite and makes the text bolder.</p>",
            "<p>变成贪心：除以很小的数会把分数越拉越开，直到全部概率落在最高的那个上。温度大于 1 则相反，"
            "文字会更大胆。</p>",
        ),
    ),
}
